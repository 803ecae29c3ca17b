"""The mapping model M_beta: from each basis state's bits and feature to one number."""

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import mlp


class Mapping:
    """An MLP on the rows [the n bits of i as ±1, most significant first; x_i], i = 0 … k-1.

    ``forward`` keeps the activations that the next ``pullback`` needs.

    Args:
        num_qubits: n.
        num_rows: k, how many basis states are used.
        hidden_sizes: of the hidden layers.
        activation: between the layers: none, tanh or relu.
    """

    def __init__(
        self, *, num_qubits: int, num_rows: int, hidden_sizes: tuple[int, ...], activation: mlp.Activation
    ) -> None:
        self.num_rows = num_rows
        self.sizes = (num_qubits + 1, *hidden_sizes, 1)
        self._activation = activation
        most_significant_first = np.arange(num_qubits - 1, -1, -1)
        self._inputs = mlp.empty_rows(num_rows, num_qubits + 1)
        self._inputs[:, :-1] = 2.0 * (np.arange(num_rows)[:, None] >> most_significant_first & 1) - 1.0
        self._outputs = [mlp.empty_rows(num_rows, size) for size in self.sizes[1:]]
        self._scratch = [(mlp.empty_rows(num_rows, size), mlp.empty_rows(num_rows, size)) for size in hidden_sizes]

    @property
    def num_parameters(self) -> int:
        """Return l, the length of beta."""
        return mlp.num_parameters(self.sizes)

    def forward(self, beta: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return M_beta of every row.

        Args:
            beta: layer by layer, weight row-major then bias, shape (l,), float64.
            x: the feature of each basis state, shape (k,), float64.

        Returns:
            Shape (k,), float64; a view that the next call overwrites.
        """
        self._inputs[:, -1] = x
        mlp.forward(mlp.split_parameters(beta, self.sizes), self._activation, self._inputs, self._outputs)
        return self._outputs[-1][:, 0]

    def pullback(
        self, beta: NDArray[np.float64], cotangent: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the gradients with respect to beta and to x at the last ``forward``.

        Args:
            beta: as given to ``forward``, shape (l,), float64.
            cotangent: ∂J/∂output, shape (k,), float64.

        Returns:
            ∂J/∂beta, shape (l,), and ∂J/∂x, shape (k,), float64.
        """
        layers = mlp.split_parameters(beta, self.sizes)
        d_beta, delta = mlp.backward(
            layers, self._activation, self._inputs, self._outputs, cotangent[:, None], self._scratch
        )
        return d_beta, delta @ layers[0][0][:, -1]
