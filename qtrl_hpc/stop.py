"""Signals that ask a run to stop: noted, and acted on after the update in progress."""

import signal
import time
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# Who sends a signal kills after a while: Slurm, unless told otherwise, after 30 s.
SECONDS_OF_GRACE = 5.0


class StopRequest:
    """Note SIGTERM, SIGINT and SIGUSR1 instead of dying of them; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.received: str | None = None
        self._since: float | None = None
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        if self._since is None:
            self._since = time.monotonic()

    def presses(self) -> bool:
        """Return whether it was asked for so long ago that nobody should wait for what may not come."""
        return self._since is not None and time.monotonic() - self._since > SECONDS_OF_GRACE
