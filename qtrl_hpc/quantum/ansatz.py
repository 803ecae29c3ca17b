"""The circuit of Quantum-Train: blocks of U3 on every qubit and a ring of controlled-U3."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.quantum.kernels import UNCONTROLLED

ANGLES_PER_GATE = 3


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


def u3_matrices(phi: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return the 2×2 matrix of every gate (for a controlled gate, of what it does to its target).

    U3(θ,φ,λ) = [[cos(θ/2), −e^{iλ} sin(θ/2)], [e^{iφ} sin(θ/2), e^{i(φ+λ)} cos(θ/2)]] (Qiskit's ``UGate``).

    Args:
        phi: angles in circuit order, radians, shape (P,), float64.

    Returns:
        Shape (P/3, 2, 2), complex128.
    """
    half, phase, lam = _angles(phi)
    cos, sin = np.cos(half), np.sin(half)
    return _stack(cos, -np.exp(1j * lam) * sin, np.exp(1j * phase) * sin, np.exp(1j * (phase + lam)) * cos)


def u3_derivatives(phi: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return the derivative of every gate's matrix with respect to each of its three angles.

    Args:
        phi: angles in circuit order, radians, shape (P,), float64.

    Returns:
        Shape (P/3, 3, 2, 2), complex128; the second axis is (theta, phi, lambda).
    """
    half, phase, lam = _angles(phi)
    cos, sin = np.cos(half), np.sin(half)
    e_phase, e_lam, e_both = np.exp(1j * phase), np.exp(1j * lam), np.exp(1j * (phase + lam))
    zero = np.zeros_like(e_phase)
    d_theta = _stack(-sin / 2, -e_lam * cos / 2, e_phase * cos / 2, -e_both * sin / 2)
    d_phase = _stack(zero, zero, 1j * e_phase * sin, 1j * e_both * cos)
    d_lam = _stack(zero, -1j * e_lam * sin, zero, 1j * e_both * cos)
    return np.stack([d_theta, d_phase, d_lam], axis=1)


def _angles(phi: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    angles = phi.reshape(-1, ANGLES_PER_GATE)
    return angles[:, 0] / 2, angles[:, 1], angles[:, 2]


def _stack(a: NDArray, b: NDArray, c: NDArray, d: NDArray) -> NDArray[np.complex128]:
    return np.stack([np.stack([a, b], axis=-1), np.stack([c, d], axis=-1)], axis=-2).astype(np.complex128)
