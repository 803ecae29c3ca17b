"""Where an update's time goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("circuit", "mapping", "episode", "gradient", "waiting", "reduction")
COUNTS = ("circuits", "retries")


class Stopwatch:
    """Add up seconds by phase, and what QPUs that are measured were asked for, between two readings."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.counts = dict.fromkeys(COUNTS, 0)
        self._start = time.perf_counter()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the time inside the ``with`` to ``phase``, one of ``PHASES``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - start

    def count(self, what: str, number: int) -> None:
        """Add to one of ``COUNTS``."""
        self.counts[what] += number

    def restart(self) -> None:
        """Set every phase, every count and the total to zero."""
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.counts = dict.fromkeys(COUNTS, 0)
        self._start = time.perf_counter()

    @property
    def total(self) -> float:
        """Return the seconds since the last ``restart``."""
        return time.perf_counter() - self._start
