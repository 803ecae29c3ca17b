"""The exact gradient of a simulated circuit by one backward sweep."""

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.quantum.qpu import QPU, Precision, StatevectorQPU


class AdjointGradient:
    """Pull a cotangent of the probabilities back to the angles by simulating the QPU's circuit.

    With ψ = U_m…U_1|0⟩ and λ = diag(g)·ψ: Σ_i g_i ∂p_i/∂φ_j = 2·Re⟨λ_j|(∂U_j)|ψ_{j−1}⟩, both states swept backwards
    together (Jones and Gacon, arXiv 2009.02823). Memory: two statevectors in all, of which one is a
    ``StatevectorQPU``'s own.

    Args:
        qpu: whose circuit it is. Where it is a ``StatevectorQPU``, its last run serves as ψ.
        precision: of the simulation beside another kind of QPU.
        threads: of the simulation beside another kind of QPU.
    """

    def __init__(self, qpu: QPU, *, precision: Precision = "double", threads: int = 1) -> None:
        if isinstance(qpu, StatevectorQPU):
            self._simulator = qpu
        else:
            self._simulator = StatevectorQPU(qpu.ansatz, precision=precision, threads=threads)

    def __call__(self, phi: NDArray[np.float64], cotangent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Σ_i g_i ∂p_i/∂φ.

        Args:
            phi: radians, shape (P,), float64.
            cotangent: g = ∂J/∂p of the first basis states, 0 for the rest, shape (at most 2^n,), float64, in Qiskit's
                order.

        Returns:
            ∂J/∂φ in circuit order, shape (P,), float64.
        """
        return self._simulator.pullback(phi, cotangent)
