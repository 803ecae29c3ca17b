# my_qpu.py
"""A QPU of your own: an exact simulator in NumPy, whose state loses a share of its purity by depolarising noise."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.gates import UNCONTROLLED

Array = NDArray[np.float64]
LOST = 0.05


class Depolarised:
    """Run one ansatz; the probabilities are (1 − LOST)·p + LOST/2^n."""

    def __init__(self, ansatz: Ansatz, precision: str = "double", threads: int = 1) -> None:
        self.ansatz = ansatz

    def probabilities(self, phi: Array) -> Array:
        """Return the probabilities at the angles phi, shape (P,): shape (2^n,), qubit 0 the least significant bit."""
        size = self.ansatz.num_amplitudes
        state = np.zeros(size, complex)
        state[0] = 1.0
        for gate, angles in zip(self.ansatz.gates, self.ansatz.gate_angles(phi).reshape(-1, 3), strict=True):
            zero = np.flatnonzero((np.arange(size) >> gate.target) & 1 == 0)
            if gate.control != UNCONTROLLED:
                zero = zero[(zero >> gate.control) & 1 == 1]
            one = zero | (1 << gate.target)
            state[[zero, one]] = u3(*angles) @ state[[zero, one]]
        return (1.0 - LOST) * np.abs(state) ** 2 + LOST / size

    def jobs(self, phis: Array) -> Iterator[Array]:
        """Run many circuits, one row of angles each: yield their probabilities, a job's rows at a time."""
        for phi in phis:
            yield self.probabilities(phi)[None]


def u3(theta: float, phi: float, lam: float) -> NDArray[np.complex128]:
    """Return the 2×2 matrix of Qiskit's ``UGate``."""
    cos, sin = np.cos(theta / 2), np.sin(theta / 2)
    return np.array([[cos, -np.exp(1j * lam) * sin], [np.exp(1j * phi) * sin, np.exp(1j * (phi + lam)) * cos]])
