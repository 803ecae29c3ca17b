"""The mapping model M_beta: from each basis state's bits and feature to one number."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import mapping_kernels, mlp

ACTIVATIONS = {"tanh": mapping_kernels.TANH, "relu": mapping_kernels.RELU}

KEPT_BYTES = 1 << 26
"""Activations are kept for the pullback up to this much memory; beyond it they are computed again."""


class Mapping(Protocol):
    """A model on the rows [the n bits of i as ±1, most significant first; x_i], i = 0 … k-1."""

    num_rows: int
    """k, how many basis states are used."""

    num_parameters: int
    """l, the length of beta."""

    def initial(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw a beta to start from, shape (l,), float64."""
        ...

    def forward(self, beta: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return M_beta of every row.

        Args:
            beta: the model's parameters, shape (l,), float64.
            x: the feature of each basis state, shape (k,), float64.

        Returns:
            Shape (k,), float64.
        """
        ...

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
        ...


class LayeredMapping:
    """What mapping models that are MLPs have in common: beta is layer by layer, weight row-major then bias.

    Args:
        num_rows: k.
        sizes: of the layers: n + 1, the hidden ones, 1.
    """

    def __init__(self, num_rows: int, sizes: tuple[int, ...]) -> None:
        self.num_rows, self.sizes, self.num_parameters = num_rows, sizes, mlp.num_parameters(sizes)

    def initial(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw beta as PyTorch's ``nn.Linear`` would."""
        return mlp.initial_parameters(self.sizes, rng)


def make_mapping(
    *,
    num_qubits: int,
    num_rows: int,
    hidden_sizes: tuple[int, ...],
    activation: mlp.Activation,
    dtype: type[np.floating] = np.float64,
) -> "AffineMapping | NonlinearMapping":
    """Return the mapping model with these hidden layers and this activation between the layers.

    Args:
        num_qubits: n.
        num_rows: k.
        hidden_sizes: of the hidden layers.
        activation: none, tanh or relu.
        dtype: float64 or float32, of the arithmetic on rows; without an activation it is float64.
    """
    sizes = (num_qubits + 1, *hidden_sizes, 1)
    if activation == "none":
        return AffineMapping(num_rows, sizes)
    return NonlinearMapping(num_rows, sizes, ACTIVATIONS[activation], dtype)


class AffineMapping(LayeredMapping):
    """A mapping model without activations: out = w·[bits, x] + b, however many layers there are.

    All that the rows bring to the gradient is s = Σ_i c_i·[bits_i, x_i] and Σ_i c_i, c the cotangent. As bits are all
    combinations of ±1, both sums go by doubling and halving, in 2^n steps.
    """

    def __init__(self, num_rows: int, sizes: tuple[int, ...]) -> None:
        super().__init__(num_rows, sizes)
        self._x = np.zeros(num_rows)

    def forward(self, beta: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return M_beta of every row (see ``Mapping.forward``)."""
        self._x = _of_length("x", x, self.num_rows).copy()
        [weight], bias = self._partial_products(beta)[-1]
        output: NDArray[np.float64] = _signed_sums(weight[:-1])[: self.num_rows] + weight[-1] * x + bias
        return output

    def pullback(
        self, beta: NDArray[np.float64], cotangent: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the gradients with respect to beta and to x (see ``Mapping.pullback``)."""
        cotangent = _of_length("cotangent", cotangent, self.num_rows)
        sums = np.append(_signed_totals(cotangent, self.sizes[0] - 1), cotangent @ self._x)
        total = cotangent.sum()
        gradients: list[NDArray[np.float64]] = []
        above = np.ones(1)
        products = self._partial_products(beta)
        for (weight, _), (product, offset) in zip(
            reversed(mlp.split_parameters(beta, self.sizes)), reversed(products[:-1]), strict=True
        ):
            gradients[:0] = [np.outer(above, product @ sums + offset * total).ravel(), above * total]
            above = above @ weight
        return np.concatenate(gradients), cotangent * above[-1]

    def _partial_products(self, beta: NDArray[np.float64]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Return (A, d) of the units A·input + d before each layer and after the last."""
        beta = _of_length("beta", beta, self.num_parameters)
        products = [(np.eye(self.sizes[0]), np.zeros(self.sizes[0]))]
        for weight, bias in mlp.split_parameters(beta, self.sizes):
            product, offset = products[-1]
            products.append((weight @ product, weight @ offset + bias))
        return products


def _signed_sums(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Σ_q ±w_q for all 2^n choices of signs, the first weight's the most significant, −1 first."""
    sums = np.zeros(1)
    for weight in weights[::-1]:
        sums = np.concatenate([sums - weight, sums + weight])
    return sums


def _signed_totals(values: NDArray[np.float64], num_qubits: int) -> NDArray[np.float64]:
    """Return Σ_i ±v_i for each bit of i, the most significant first, the sign that of the bit as ±1."""
    rest = np.zeros(1 << num_qubits)
    rest[: len(values)] = values
    totals = np.empty(num_qubits)
    for index in range(num_qubits):
        low, high = np.split(rest, 2)
        totals[index] = high.sum() - low.sum()
        rest = low + high
    return totals


class NonlinearMapping(LayeredMapping):
    """A mapping model with tanh or relu between its layers, by kernels of our own (qtrl_hpc.mapping_kernels)."""

    def __init__(self, num_rows: int, sizes: tuple[int, ...], activation: int, dtype: type[np.floating]) -> None:
        super().__init__(num_rows, sizes)
        rows = mapping_kernels.rows_of_block(dtype)
        blocks, units = -(-num_rows // rows), sum(sizes)
        kept = blocks * units * rows * np.dtype(dtype).itemsize <= KEPT_BYTES
        self._model = np.array(sizes), activation
        self._units = np.zeros((blocks if kept else 1, units, rows), dtype)
        self._x, self._output, self._cotangent, self._d_x = np.zeros((4, blocks * rows), dtype)

    def forward(self, beta: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return M_beta of every row (see ``Mapping.forward``)."""
        self._x[: self.num_rows] = _of_length("x", x, self.num_rows)
        mapping_kernels.forward(self._beta(beta), *self._model, self._x, self._units, self._output)
        output: NDArray[np.float64] = self._output[: self.num_rows].astype(np.float64)
        return output

    def pullback(
        self, beta: NDArray[np.float64], cotangent: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the gradients with respect to beta and to x (see ``Mapping.pullback``)."""
        self._cotangent[: self.num_rows] = _of_length("cotangent", cotangent, self.num_rows)
        d_beta = np.empty(len(beta))
        mapping_kernels.pullback(
            self._beta(beta), *self._model, self._x, self._units, self._cotangent, d_beta, self._d_x
        )
        return d_beta, self._d_x[: self.num_rows].astype(np.float64)

    def _beta(self, beta: NDArray[np.float64]) -> NDArray[np.floating]:
        return np.ascontiguousarray(_of_length("beta", beta, self.num_parameters), self._x.dtype)


def _of_length(name: str, values: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Return the values; kernels do not look where an array ends."""
    if values.shape != (length,):
        raise ValueError(f"{name}: got shape {values.shape}, expected ({length},)")
    return values
