"""Where the time of a run's updates went."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.report.data import RunData
from qtrl_hpc.stopwatch import PHASES

MOST_POINTS = 120
OTHER = "other"


@dataclass(frozen=True)
class Share:
    """What one phase took."""

    name: str
    seconds: float
    percent: float
    median: float
    """Milliseconds an update."""


@dataclass(frozen=True)
class Time:
    """Of all updates, by phase."""

    names: list[str]
    updates: NDArray[np.float64]
    """Shape (points,): the middle of each few updates."""
    milliseconds: NDArray[np.float64]
    """Mean of these updates, shape (points, phases)."""
    shares: list[Share]
    seconds: float
    """Of all updates, without start-up, metrics and checkpoints."""
    rate: float
    """Updates a second."""


def time_of(run: RunData) -> Time | None:
    """Return where the time went; None where no update says how long it took.

    Phases are means over ranks, the whole is rank 0's; what is left over is ``OTHER``, at least 0.
    """
    total = run.values("seconds")
    timed = np.isfinite(total)
    if not timed.any():
        return None
    phases = np.array([run.values(f"seconds_{phase}") for phase in PHASES]).T[timed]
    phases, total = np.nan_to_num(phases), total[timed]
    phases = np.column_stack([phases, np.maximum(total - phases.sum(axis=1), 0.0)])
    names = [*PHASES, OTHER]
    whole = float(phases.sum()) or 1.0
    shares = [
        Share(name, float(column.sum()), 100.0 * float(column.sum()) / whole, 1000.0 * float(np.median(column)))
        for name, column in zip(names, phases.T, strict=True)
    ]
    pieces = np.array_split(np.arange(len(total)), min(MOST_POINTS, len(total)))
    updates = run.values("update")[timed]
    return Time(
        names=names,
        updates=np.array([updates[piece].mean() for piece in pieces]),
        milliseconds=np.array([1000.0 * phases[piece].mean(axis=0) for piece in pieces]),
        shares=shares,
        seconds=float(total.sum()),
        rate=len(total) / float(total.sum() or 1.0),
    )
