"""Where an update's time goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("circuit", "mapping", "episode", "gradient", "waiting", "reduction")


class Stopwatch:
    """Add up seconds by phase between two readings."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._start = time.perf_counter()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the time inside the ``with`` to ``phase``, one of ``PHASES``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - start

    def restart(self) -> None:
        """Set every phase and the total to zero."""
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._start = time.perf_counter()

    @property
    def total(self) -> float:
        """Return the seconds since the last ``restart``."""
        return time.perf_counter() - self._start
