"""A gradient from two circuits, whatever the number of angles: simultaneous perturbation (SPSA)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.quantum.qpu import QPU


class SpsaGradient:
    """Estimate the pullback of a cotangent from runs at random pairs of angles φ ± cΔ.

    ĝ = (1/r) Σ_d [f(φ + cΔ_d) − f(φ − cΔ_d)]/(2c) · Δ_d, with f = Σ_i g_i p_i and each Δ_dj = ±1 with equal chance
    (Spall, IEEE Trans. Automatic Control 37 (1992) 332; 1/Δ_dj = Δ_dj). Its mean over Δ is the gradient but for O(c²);
    its spread is that of r directions of P.

    Args:
        qpu: runs the 2r circuits of an estimate together.
        directions: r.
        draw: returns c of this update, in radians, and the generator that draws Δ.
    """

    def __init__(self, qpu: QPU, *, directions: int, draw: Callable[[], tuple[float, np.random.Generator]]) -> None:
        self._qpu, self._directions, self._draw = qpu, directions, draw

    def __call__(self, phi: NDArray[np.float64], cotangent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return an estimate of Σ_i g_i ∂p_i/∂φ.

        Args:
            phi: radians, shape (P,), float64.
            cotangent: g = ∂J/∂p of the first basis states, 0 for the rest, shape (at most 2^n,), float64.

        Returns:
            In circuit order, shape (P,), float64.
        """
        c, rng = self._draw()
        signs = rng.choice((-1.0, 1.0), (self._directions, len(phi)))
        pairs = np.concatenate([phi + c * signs, phi - c * signs])
        values = np.concatenate([found[:, : len(cotangent)] @ cotangent for found in self._qpu.jobs(pairs)])
        plus, minus = np.split(values, 2)
        gradient: NDArray[np.float64] = (plus - minus) / (2.0 * c) @ signs / self._directions
        return gradient
