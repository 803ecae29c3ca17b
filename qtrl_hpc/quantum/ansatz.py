"""The circuit of Quantum-Train: blocks of U3 on every qubit and a ring of controlled-U3."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ANGLES_PER_GATE = 3
UNCONTROLLED = -1


@dataclass(frozen=True, kw_only=True)
class Ansatz:
    """Describe the circuit: which gate acts where, and how many angles it has.

    Each of ``num_layers`` blocks is U3 on qubits 0 … n-1, then controlled-U3 with control q and target
    (q+1) mod n for q = 0 … n-1. On one qubit there is no ring, since a qubit cannot control itself.
    Angles are in circuit order, three a gate: (theta, phi, lambda) of Qiskit's ``UGate``, or of its
    ``CUGate`` with gamma = 0. So phi has 6·n·L entries (n > 1).
    """

    num_qubits: int
    num_layers: int

    def __post_init__(self) -> None:
        if self.num_qubits < 1 or self.num_layers < 1:
            raise ValueError(
                f"an ansatz needs at least 1 qubit and 1 layer, got {self.num_qubits} and {self.num_layers}"
            )

    @property
    def targets(self) -> NDArray[np.int64]:
        """Return the qubit that each gate acts on, shape (num_gates,)."""
        n = self.num_qubits
        ring = (np.arange(n) + 1) % n if n > 1 else np.empty(0, np.int64)
        return np.tile(np.concatenate([np.arange(n), ring]), self.num_layers)

    @property
    def controls(self) -> NDArray[np.int64]:
        """Return the control of each gate, shape (num_gates,); ``UNCONTROLLED`` for a U3."""
        n = self.num_qubits
        ring = np.arange(n) if n > 1 else np.empty(0, np.int64)
        return np.tile(np.concatenate([np.full(n, UNCONTROLLED), ring]), self.num_layers)

    @property
    def num_angles(self) -> int:
        """Return P, the length of phi: 6·n·L for n > 1."""
        return ANGLES_PER_GATE * len(self.targets)

    @property
    def num_amplitudes(self) -> int:
        """Return 2^n."""
        return 1 << self.num_qubits
