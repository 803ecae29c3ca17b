"""The exact gradient of a simulated circuit by one backward sweep."""

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.quantum import kernels
from qtrl_hpc.quantum.ansatz import u3_derivatives, u3_matrices
from qtrl_hpc.quantum.qpu import ExactQPU


class AdjointGradient:
    """Pull a cotangent of the probabilities back to the angles of an exact QPU's last run.

    With ψ = U_m…U_1|0⟩ and λ = diag(g)·ψ: Σ_i g_i ∂p_i/∂φ_j = 2·Re⟨λ_j|(∂U_j)|ψ_{j−1}⟩, both states swept backwards
    together (Jones and Gacon, arXiv 2009.02823). Memory: two statevectors beside the QPU's own, which is left alone so
    that the pullbacks of several agents can start from one run.
    """

    def __init__(self, qpu: ExactQPU) -> None:
        self._qpu = qpu
        self._targets, self._controls = qpu.ansatz.targets, qpu.ansatz.controls
        self._cotangent = np.empty_like(qpu.state)
        self._state = np.empty_like(qpu.state)

    def __call__(self, phi: NDArray[np.float64], cotangent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Σ_i g_i ∂p_i/∂φ.

        Args:
            phi: the angles of the QPU's last run, radians, shape (P,), float64.
            cotangent: g = ∂J/∂p, shape (2^n,), float64, in Qiskit's order.

        Returns:
            ∂J/∂φ in circuit order, shape (P,), float64.
        """
        np.copyto(self._state, self._qpu.state)
        np.multiply(self._state, cotangent, out=self._cotangent)
        gradient = np.empty(len(phi))
        kernels.sweep(
            self._state, self._cotangent, u3_matrices(phi), u3_derivatives(phi), self._targets, self._controls, gradient
        )
        return gradient
