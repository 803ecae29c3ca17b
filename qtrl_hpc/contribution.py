"""The buffer of the one reduction: what each rank puts in, and what its sum over all ranks means."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.agents import STATISTICS
from qtrl_hpc.fleet import Rows
from qtrl_hpc.stopwatch import COUNTS, PHASES, Stopwatch

# All phases but the reduction itself, which is not over when the buffer leaves.
_TRAVELLING_PHASES = PHASES[:-1]
_COLUMNS = (*STATISTICS, "delivered", *_TRAVELLING_PHASES, *COUNTS, "failed", "ranks", "non_finite", "stop")
_DELIVERED, _FIRST_OF_RANK = _COLUMNS.index("delivered"), _COLUMNS.index("delivered") + 1


def pack(
    d_Theta: Rows,
    statistics: NDArray[np.float64],
    stopwatch: Stopwatch,
    *,
    size: int,
    agents: int,
    failed: int = 0,
    stop: bool,
) -> NDArray[np.float64]:
    """Return this rank's rows: gradient, statistics, seconds by phase, flags.

    Args:
        d_Theta: ∂J/∂Theta, one a row, shape (P + l,), float64; None where it was not delivered.
        statistics: of ``Agents.reinforce``, shape (rows, 7).
        stopwatch: seconds by phase and counts of this rank; they travel in its first row.
        size: P + l.
        agents: of this rank; each row is the sum over as many.
        failed: how many of them have a QPU that failed.
        stop: whether this rank was asked to stop.

    Returns:
        Shape (rows, P + l + columns), float64, contiguous.
    """
    rows = np.zeros((len(d_Theta), size + len(_COLUMNS)))
    tail = rows[:, size:]
    tail[:, : len(STATISTICS)] = statistics
    for row, gradient in zip(rows, d_Theta, strict=True):
        if gradient is not None:
            row[:size] = gradient
            row[size + _DELIVERED] = agents / len(d_Theta)
    seconds = [stopwatch.seconds[phase] for phase in _TRAVELLING_PHASES]
    tail[0, _FIRST_OF_RANK:-2] = [*seconds, *stopwatch.counts.values(), failed, 1]
    tail[:, -2] = ~np.isfinite(rows).all(axis=1)
    tail[0, -1] = stop
    return rows


@dataclass(frozen=True)
class Total:
    """The sum of all ranks' rows.

    Args:
        vector: shape (P + l + columns,), float64.
    """

    vector: NDArray[np.float64]

    @property
    def gradient(self) -> NDArray[np.float64]:
        """Return the sum over agents of ∂J/∂Theta, shape (P + l,)."""
        return self.vector[: -len(_COLUMNS)]

    def __getitem__(self, name: str) -> float:
        """Return the sum of one column."""
        return float(self.vector[_COLUMNS.index(name) - len(_COLUMNS)])

    def mean(self, name: str, over: str) -> float | None:
        """Return the mean of one of ``STATISTICS`` over "episodes" or "steps"; None where there were none."""
        return self[name] / self[over] if self[over] else None
