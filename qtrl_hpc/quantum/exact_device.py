"""An exact simulator as a device: for gradients that each agent's QPU takes by itself, without shots or noise."""

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.quantum.aer import KEPT_NUMBERS
from qtrl_hpc.quantum.qpu import QPU


class ExactDevice:
    """Run the circuits of a job on an exact QPU.

    Args:
        qpu: an exact simulator.
    """

    def __init__(self, qpu: QPU) -> None:
        self.ansatz, self._qpu = qpu.ansatz, qpu
        self.circuits_per_job: int | None = max(1, KEPT_NUMBERS >> qpu.ansatz.num_qubits)

    def probabilities_many(self, phis: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
        """Run the circuit with each row of angles (see ``Device.probabilities_many``); nothing is random."""
        return np.concatenate(list(self._qpu.jobs(phis)))

    def exact(self, phi: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return the probabilities (see ``Device.exact``)."""
        return self._qpu.probabilities(phi)
