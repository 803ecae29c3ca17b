"""The buffer of the one reduction: what each rank puts in, and what its sum over all ranks means."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.agents import STATISTICS
from qtrl_hpc.stopwatch import PHASES

# All phases but the reduction itself, which is not over when the buffer leaves.
_TRAVELLING_PHASES = PHASES[:-1]
_COLUMNS = (*STATISTICS, *_TRAVELLING_PHASES, "non_finite", "stop")


def pack(
    d_Theta: list[NDArray[np.float64]],
    statistics: NDArray[np.float64],
    seconds: dict[str, float],
    *,
    stop: bool,
) -> NDArray[np.float64]:
    """Return this rank's rows: gradient, statistics, seconds by phase, all-finite flag and stop flag.

    Args:
        d_Theta: ∂J/∂Theta, one a row, shape (P + l,), float64.
        statistics: of ``Agents.reinforce``, shape (rows, 7).
        seconds: spent by this rank, by phase; they travel in its first row.
        stop: whether this rank was asked to stop.

    Returns:
        Shape (rows, P + l + columns), float64, contiguous.
    """
    rows = np.zeros((len(d_Theta), d_Theta[0].size + len(_COLUMNS)))
    rows[:, : -len(_COLUMNS)] = d_Theta
    tail = rows[:, -len(_COLUMNS) :]
    tail[:, : len(STATISTICS)] = statistics
    tail[0, len(STATISTICS) : -2] = [seconds[phase] for phase in _TRAVELLING_PHASES]
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
