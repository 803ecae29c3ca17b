"""A QPU that is measured, and may fail: jobs with seeds of their own, looked at, repeated, given up."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.errors import QpuError, one_line
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.waiting import within

# Of a sum of probabilities from 1.
TOLERANCE = 1e-6


class Device(Protocol):
    """What runs one ansatz and gives what it measured. It may raise anything."""

    ansatz: Ansatz
    circuits_per_job: int | None
    """As many as one call may have; None for any number."""

    def probabilities_many(self, phis: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
        """Run the circuit with each row of angles.

        Args:
            phis: radians, shape (m, P), float64.
            seed: decides all that is random, where the device is a simulator.

        Returns:
            Counts over shots, or exact probabilities, shape (m, 2^n), float64; index = Qiskit's, qubit 0 least
            significant.
        """
        ...

    def exact(self, phi: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return what infinitely many shots would give, shape (2^n,), or None where only a measurement can tell."""
        ...


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a job is tried."""

    retries: int
    """Further attempts after the first."""
    pause: float
    """Seconds before the first of them; twice as many before each next one."""
    timeout: float | None
    """Seconds after which an attempt counts as failed; None to wait as long as it takes."""


class MeasuredQPU:
    """One agent's QPU: a device, with the agent's seeds.

    A job that is repeated has the same seed, so that a run in which a job failed once is the run in which it did not.

    Args:
        device: may serve several agents in turn.
        seed: returns the seed of a job, by update and number of the job in it.
        patience: with a job that fails.
        count: is told how many circuits were run ("circuits") and jobs repeated ("retries").
    """

    def __init__(
        self,
        device: Device,
        *,
        seed: Callable[[int, int], int],
        patience: Patience,
        count: Callable[[str, int], None] = lambda what, number: None,
    ) -> None:
        self.ansatz, self._device, self._seed = device.ansatz, device, seed
        self._patience, self._count = patience, count
        self.begin(0)

    def begin(self, update: int) -> None:
        """Begin an update: its number decides all seeds."""
        self.update, self._job = update, 0

    def probabilities(self, phi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Run the circuit once (see ``QPU.probabilities``).

        Raises:
            QpuError: no attempt succeeded.
        """
        [found] = self.jobs(phi[None])
        return found[0]

    def jobs(self, phis: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """Run many circuits (see ``QPU.jobs``).

        Raises:
            QpuError: no attempt of one of the jobs succeeded.
        """
        size = self._device.circuits_per_job or len(phis)
        for start in range(0, len(phis), size):
            yield self._one_job(phis[start : start + size])

    def exact(self, phi: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return what infinitely many shots would give, or None where only a measurement can tell."""
        return self._device.exact(phi)

    def _one_job(self, phis: NDArray[np.float64]) -> NDArray[np.float64]:
        seed, patience, reason = self._seed(self.update, self._job), self._patience, ""
        self._job += 1
        for attempt in range(patience.retries + 1):
            if attempt:
                self._count("retries", 1)
                time.sleep(patience.pause * 2.0 ** (attempt - 1))
            self._count("circuits", len(phis))
            try:
                found = within(patience.timeout, lambda: self._device.probabilities_many(phis, seed))
                return checked(found, (len(phis), self.ansatz.num_amplitudes))
            except Exception as error:  # whatever a device, its provider or the way to it may raise
                reason = f"{type(error).__name__}: {one_line(error)}"
        raise QpuError(f"{reason} (attempt {patience.retries + 1} of {patience.retries + 1})")


def checked(found: object, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return what a device gave, if it is probabilities.

    Raises:
        ValueError: it has another shape, is not finite, is negative, or does not sum to 1.
    """
    values = np.asarray(found, np.float64)
    if values.shape != shape:
        raise ValueError(f"probabilities of shape {values.shape}, expected {shape}")
    if not np.isfinite(values).all():
        raise ValueError("probabilities that are not finite")
    if values.min() < -TOLERANCE:
        raise ValueError(f"a probability of {values.min():g}")
    furthest = values.sum(axis=1)[np.argmax(abs(values.sum(axis=1) - 1.0))]
    if abs(furthest - 1.0) > TOLERANCE:
        raise ValueError(f"probabilities that sum to {furthest:g}, expected 1")
    return values
