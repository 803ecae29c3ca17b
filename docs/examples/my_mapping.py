# my_mapping.py
"""A mapping model of your own: quadratic in the bits of a basis state, with its feature x as a factor.

out_i = f_i·w + (f_i·v)·x_i, where f_i holds 1, the n bits of i as ±1, and the products of two bits; β is w, then v.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Quadratic:
    """M_β on the rows i = 0 … k−1."""

    def __init__(self, *, num_qubits: int, num_rows: int, **further: Any) -> None:
        # hidden_sizes, activation and dtype are given too; this model has no use for them.
        bits = (np.arange(num_rows)[:, None] >> np.arange(num_qubits)) & 1
        signs = np.where(bits == 1, 1.0, -1.0)
        first, second = np.triu_indices(num_qubits, 1)
        self._f = np.column_stack([np.ones(num_rows), signs, signs[:, first] * signs[:, second]])
        self.num_rows = num_rows
        self.num_parameters: int = 2 * self._f.shape[1]

    def initial(self, rng: np.random.Generator) -> Array:
        """Draw a β to start from, shape (l,): policy weights of about 0.1."""
        return rng.normal(0.0, 0.1 / math.sqrt(self._f.shape[1]), self.num_parameters)

    def forward(self, beta: Array, x: Array) -> Array:
        """Return M_β of every row, shape (k,), from β, shape (l,), and the features, shape (k,)."""
        w, v = np.split(beta, 2)
        self._x = x
        output: Array = self._f @ w + (self._f @ v) * x
        return output

    def pullback(self, beta: Array, cotangent: Array) -> tuple[Array, Array]:
        """Return ∂J/∂β, shape (l,), and ∂J/∂x, shape (k,), at the last ``forward``, from ∂J/∂out, shape (k,)."""
        _, v = np.split(beta, 2)
        d_beta = np.concatenate([cotangent @ self._f, (cotangent * self._x) @ self._f])
        return d_beta, cotangent * (self._f @ v)
