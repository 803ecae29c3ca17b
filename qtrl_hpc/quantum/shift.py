"""The exact gradient of a circuit from probabilities alone, as a device can give them."""

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.quantum.ansatz import ANGLES_PER_GATE, UNCONTROLLED
from qtrl_hpc.quantum.qpu import QPU

# f(x) = A cos(x) + B sin(x) + C: two evaluations.
TWO_TERMS = ((np.pi / 2, 0.5), (-np.pi / 2, -0.5))
# f also has frequency 1/2 (the generator's eigenvalues 0, ±1/2): four evaluations (Wierichs et al., arXiv 2107.12390).
_C_PLUS, _C_MINUS = (np.sqrt(2) + 1) / (4 * np.sqrt(2)), (np.sqrt(2) - 1) / (4 * np.sqrt(2))
FOUR_TERMS = ((np.pi / 2, _C_PLUS), (-np.pi / 2, -_C_PLUS), (3 * np.pi / 2, -_C_MINUS), (-3 * np.pi / 2, _C_MINUS))


class ParameterShiftGradient:
    """Pull a cotangent of the probabilities back to the angles by running shifted circuits.

    ∂f/∂φ_j = Σ_s c_s f(φ + s·e_j): two terms for an angle of a U3, four for an angle of a controlled-U3.
    """

    def __init__(self, qpu: QPU) -> None:
        self._qpu = qpu
        self._controls = qpu.ansatz.controls

    def __call__(self, phi: NDArray[np.float64], cotangent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Σ_i g_i ∂p_i/∂φ.

        Args:
            phi: radians, shape (P,), float64.
            cotangent: g = ∂J/∂p of the first basis states, 0 for the rest, shape (at most 2^n,), float64.

        Returns:
            ∂J/∂φ in circuit order, shape (P,), float64.
        """
        gradient = np.zeros(len(phi))
        shifted = phi.copy()
        for j in range(len(phi)):
            terms = TWO_TERMS if self._controls[j // ANGLES_PER_GATE] == UNCONTROLLED else FOUR_TERMS
            for shift, coefficient in terms:
                shifted[j] = phi[j] + shift
                gradient[j] += coefficient * (cotangent @ self._qpu.probabilities(shifted)[: len(cotangent)])
            shifted[j] = phi[j]
        return gradient
