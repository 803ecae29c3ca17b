"""What asks a run to stop, signals above all: noted, and acted on after the update in progress."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# Who sends a signal kills after a while: Slurm, unless told otherwise, after 30 s.
SECONDS_OF_GRACE = 5.0
BY_SIGNAL = "asked to by a signal"


class StopRequest:
    """Note SIGTERM, SIGINT and SIGUSR1 instead of dying of them; a second SIGINT interrupts at once.

    In another thread than the main one Python hears no signals, and they go where they went before. At the end of a
    ``with`` they do so again.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.asked: str | None = None
        """Why the program itself asks for it."""
        self._since: float | None = None
        self._before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}

    def __enter__(self) -> "StopRequest":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)

    def deafen(self) -> None:
        """Ignore these signals from now on.

        Python puts handlers away before it ends, and a signal that comes later would kill a process that is done.
        """
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    @property
    def why(self) -> str | None:
        """Return what asks for it, if anything does."""
        return BY_SIGNAL if self.received else self.asked

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        if self._since is None:
            self._since = time.monotonic()

    def presses(self) -> bool:
        """Return whether it was asked for so long ago that nobody should wait for what may not come."""
        return self._since is not None and time.monotonic() - self._since > SECONDS_OF_GRACE
