"""Where an update's time goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("circuit", "mapping", "episode", "gradient", "waiting", "reduction")
COUNTS = ("circuits", "retries")
WAITING = ("waiting", "reduction", "agreement")
"""What a rank is at that has nothing to do until others come."""


class Stopwatch:
    """Add up seconds by phase, and what QPUs that are measured were asked for, between two readings."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.counts = dict.fromkeys(COUNTS, 0)
        self._start = time.perf_counter()
        self.at("start-up")

    def at(self, phase: str) -> None:
        """Note what comes now, for who watches from another thread: ``position`` is that and when it began."""
        self.position = (phase, time.monotonic())

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the time inside the ``with`` to ``phase``, one of ``PHASES``."""
        start = time.perf_counter()
        self.at(phase)
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - start
            self.at("an update")

    def count(self, what: str, number: int) -> None:
        """Add to one of ``COUNTS``."""
        self.counts[what] += number
        self.at(self.position[0])

    def restart(self) -> None:
        """Set every phase, every count and the total to zero."""
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.counts = dict.fromkeys(COUNTS, 0)
        self._start = time.perf_counter()

    @property
    def total(self) -> float:
        """Return the seconds since the last ``restart``."""
        return time.perf_counter() - self._start
