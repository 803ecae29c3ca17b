"""The exact gradient of a circuit from probabilities alone, as a device can give them."""

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.gates import UNCONTROLLED, Fixed
from qtrl_hpc.quantum.qpu import QPU

Terms = tuple[tuple[float, float], ...]
"""Pairs of a shift and its coefficient."""

# f(x) = A cos(x) + B sin(x) + C: two evaluations.
TWO_TERMS = ((np.pi / 2, 0.5), (-np.pi / 2, -0.5))
# f also has frequency 1/2 (the generator's eigenvalues 0, ±1/2): four evaluations (Wierichs et al., arXiv 2107.12390).
_C_PLUS, _C_MINUS = (np.sqrt(2) + 1) / (4 * np.sqrt(2)), (np.sqrt(2) - 1) / (4 * np.sqrt(2))
FOUR_TERMS = ((np.pi / 2, _C_PLUS), (-np.pi / 2, -_C_PLUS), (3 * np.pi / 2, -_C_MINUS), (-3 * np.pi / 2, _C_MINUS))


class ParameterShiftGradient:
    """Pull a cotangent of the probabilities back to the angles by running shifted circuits.

    ∂f/∂φ_j = Σ_s c_s f(φ + s·e_j): two terms for an angle of a U3, four for an angle of a controlled-U3, more where
    several gates share the angle (``_shared_terms``). All circuits of a gradient are given to the QPU together.
    """

    def __init__(self, qpu: QPU) -> None:
        self._qpu = qpu
        self._terms = _terms(qpu.ansatz)

    def __call__(self, phi: NDArray[np.float64], cotangent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Σ_i g_i ∂p_i/∂φ.

        Args:
            phi: radians, shape (P,), float64.
            cotangent: g = ∂J/∂p of the first basis states, 0 for the rest, shape (at most 2^n,), float64.

        Returns:
            ∂J/∂φ in circuit order, shape (P,), float64.
        """
        return self.of_angles(phi, cotangent, np.arange(len(phi)))

    def of_angles(
        self, phi: NDArray[np.float64], cotangent: NDArray[np.float64], angles: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return Σ_i g_i ∂p_i/∂φ_j of some angles j.

        Args:
            phi: radians, shape (P,), float64.
            cotangent: as above.
            angles: which ones, shape (m,), int64.

        Returns:
            Shape (P,), float64, 0 for the other angles.
        """
        gradient = np.zeros(len(phi))
        runs = [(j, shift, coefficient) for j in angles.tolist() for shift, coefficient in self._terms[j]]
        if not runs:
            return gradient
        index, shifts, coefficients = map(np.array, zip(*runs, strict=True))
        shifted = np.tile(phi, (len(runs), 1))
        shifted[np.arange(len(runs)), index] += shifts
        values = [found[:, : len(cotangent)] @ cotangent for found in self._qpu.jobs(shifted)]
        np.add.at(gradient, index, coefficients * np.concatenate(values))
        return gradient


def num_circuits(ansatz: Ansatz) -> int:
    """Return how many circuits a gradient takes: 6 a U3, 12 a controlled-U3, if all is trained and nothing shared."""
    return sum(map(len, _terms(ansatz)))


def _terms(ansatz: Ansatz) -> list[Terms]:
    """Return the shifts and coefficients of each angle."""
    controls: list[list[int]] = [[] for _ in range(ansatz.num_angles)]
    for gate in ansatz.gates:
        for angle in gate.angles:
            if not isinstance(angle, Fixed):
                controls[angle].append(gate.control)
    alone = {True: FOUR_TERMS, False: TWO_TERMS}
    return [
        alone[own[0] != UNCONTROLLED] if len(own) == 1 else _shared_terms(len(own), set(own) != {UNCONTROLLED})
        for own in controls
    ]


def _shared_terms(count: int, controlled: bool) -> Terms:
    """Return the shifts and coefficients of an angle that several gates have.

    f has the frequencies 1 … count, or 1/2, 1, … count where a gate has a control. With R frequencies that are the
    multiples of w: f'(x) = w·Σ_m (−1)^(m−1)/(4R·sin²(y_m/2))·f(x + y_m/w), y_m = (2m−1)π/(2R), m = 1 … 2R (Wierichs et
    al., Eq. 24).

    Args:
        count: how many gates' angles it is.
        controlled: whether any of these gates has a control.
    """
    w, R = (0.5, 2 * count) if controlled else (1.0, count)
    shifts = (2 * np.arange(1, 2 * R + 1) - 1) * np.pi / (2 * R)
    coefficients = w * (-1.0) ** np.arange(2 * R) / (4 * R * np.sin(shifts / 2) ** 2)
    return tuple(zip((shifts / w).tolist(), coefficients.tolist(), strict=True))
