"""A QPU that is measured, and may fail: jobs with seeds of their own, looked at, repeated, given up."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.errors import QpuError, UserError, one_line
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.waiting import CALLED_OFF, GivenUpError, never, pause, within

T = TypeVar("T")

# How far a sum of probabilities may be from 1, by the precision that they were computed in: in single precision
# rounding comes to more than 1e-6 where there are many layers.
TOLERANCES = {"double": 1e-6, "single": 1e-4}
# Between two attempts, unless the first pause is longer.
LONGEST_PAUSE = 600.0


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
    """Seconds before the first of them; twice as many before each next one, up to ten minutes."""
    timeout: float | None
    """Seconds after which an attempt counts as failed; infinity to wait as long as it takes, None where it surely ends
    (a simulator)."""

    def pause_before(self, attempt: int) -> float:
        """Return the seconds to wait before an attempt; the first is number 0."""
        doubled = self.pause * 2.0 ** min(attempt - 1, 30)
        return min(doubled, max(self.pause, LONGEST_PAUSE)) if attempt else 0.0


class MeasuredQPU:
    """One agent's QPU: a device, with the agent's seeds.

    A job that is repeated has the same seed, so that a run in which a job failed once is the run in which it did not.

    Args:
        device: may serve several agents in turn.
        seed: returns the seed of a job, by update and number of the job in it.
        patience: with a job that fails.
        count: is told how many circuits were run ("circuits") and jobs repeated ("retries").
        called_off: whether waiting has no sense any more, as the run is to stop.
        tolerance: how far a sum of probabilities may be from 1.
    """

    def __init__(
        self,
        device: Device,
        *,
        seed: Callable[[int, int], int],
        patience: Patience,
        count: Callable[[str, int], None] = lambda what, number: None,
        called_off: Callable[[], bool] = never,
        tolerance: float = TOLERANCES["double"],
    ) -> None:
        self.ansatz, self._device, self._seed = device.ansatz, device, seed
        self._patience, self._count, self._called_off, self._tolerance = patience, count, called_off, tolerance
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
        probabilities: NDArray[np.float64] = found[0]
        return probabilities

    def jobs(self, phis: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """Run many circuits (see ``QPU.jobs``).

        Raises:
            QpuError: no attempt of one of the jobs succeeded.
        """
        size = self._device.circuits_per_job or len(phis)
        for start in range(0, len(phis), size):
            yield self._one_job(phis[start : start + size])

    def exact(self, phi: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return what infinitely many shots would give, or None where only a measurement can tell.

        Raises:
            QpuError: no attempt succeeded.
        """
        shape = (1, self.ansatz.num_amplitudes)

        def compute() -> NDArray[np.float64] | None:
            found = self._device.exact(phi)
            return None if found is None else checked(np.asarray(found)[None], shape, self._tolerance)[0]

        return self._attempts(compute)

    def _one_job(self, phis: NDArray[np.float64]) -> NDArray[np.float64]:
        seed, shape = self._seed(self.update, self._job), (len(phis), self.ansatz.num_amplitudes)
        self._job += 1

        def measure() -> NDArray[np.float64]:
            return checked(self._device.probabilities_many(phis, seed), shape, self._tolerance)

        return self._attempts(measure, len(phis))

    def _attempts(self, call: Callable[[], T], circuits: int = 0) -> T:
        """Return what a call returns, which runs so many circuits; one that fails is made again, as patience says."""
        patience, reason = self._patience, ""
        for attempt in range(patience.retries + 1):
            try:
                if attempt:
                    self._count("retries", 1)
                    pause(patience.pause_before(attempt), self._called_off)
                # A simulator's answer is worth waiting for: it comes. Nothing is sent to others for nothing.
                if (attempt or patience.timeout is not None) and self._called_off():
                    raise GivenUpError(CALLED_OFF)
                self._count("circuits", circuits)
                return within(patience.timeout, call, self._called_off)
            except GivenUpError as error:
                raise QpuError(f"{error}{f'; before that {reason}' if reason else ''}") from None
            except UserError:  # an exact QPU of the user's own that returns something else than it must
                raise
            except Exception as error:  # whatever a device, its provider or the way to it may raise
                reason = f"{type(error).__name__}: {one_line(error)}"
        raise QpuError(f"{reason} (attempt {patience.retries + 1} of {patience.retries + 1})")


def checked(found: object, shape: tuple[int, int], tolerance: float = TOLERANCES["double"]) -> NDArray[np.float64]:
    """Return what a device gave, if it is probabilities.

    Args:
        found: what it gave.
        shape: that it must have.
        tolerance: how far a sum may be from 1, and a probability below 0.

    Raises:
        ValueError: it has another shape, is not finite, is negative, or does not sum to 1.
    """
    values = np.asarray(found, np.float64)
    if values.shape != shape:
        raise ValueError(f"probabilities of shape {values.shape}, expected {shape}")
    if not np.isfinite(values).all():
        raise ValueError("probabilities that are not finite")
    if values.min() < -tolerance:
        raise ValueError(f"a probability of {values.min():g}")
    furthest = values.sum(axis=1)[np.argmax(abs(values.sum(axis=1) - 1.0))]
    if abs(furthest - 1.0) > tolerance:
        raise ValueError(f"probabilities that sum to {furthest:.9g}, expected 1 to within {tolerance:g}")
    return values
