"""Multilayer perceptrons over one flat parameter vector: the mapping model and the policy are both such."""

from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Activation = Literal["none", "tanh", "relu"]
Layers = list[tuple[NDArray[np.float64], NDArray[np.float64]]]


def layer_shapes(sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the (outputs, inputs) of each layer; ``sizes`` begins with the input's."""
    return [(outputs, inputs) for inputs, outputs in pairwise(sizes)]


def num_parameters(sizes: tuple[int, ...]) -> int:
    """Return how many weights and biases there are."""
    return sum(outputs * inputs + outputs for outputs, inputs in layer_shapes(sizes))


def split_parameters(flat: NDArray[np.float64], sizes: tuple[int, ...]) -> Layers:
    """Cut a flat vector into (weight, bias) views, layer by layer, weight row-major (outputs, inputs) then bias.

    Args:
        flat: shape (num_parameters(sizes),).
        sizes: of the layers, input size first.
    """
    layers, start = [], 0
    for outputs, inputs in layer_shapes(sizes):
        middle, end = start + outputs * inputs, start + outputs * inputs + outputs
        layers.append((flat[start:middle].reshape(outputs, inputs), flat[middle:end]))
        start = end
    return layers


def initial_parameters(sizes: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw weights and biases uniform in ±1/√inputs, the default of PyTorch's ``nn.Linear``."""
    return np.concatenate(
        [
            rng.uniform(-1.0, 1.0, outputs * inputs + outputs) / np.sqrt(inputs)
            for outputs, inputs in layer_shapes(sizes)
        ]
    )


def forward(layers: Layers, activation: Activation, inputs: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return what each layer puts out; ``activation`` stands between the layers, none after the last.

    Args:
        layers: of ``split_parameters``.
        activation: none, tanh or relu.
        inputs: one row, shape (size,), or many, shape (rows, size).

    Returns:
        One array a layer, shape (size,) or (rows, size).
    """
    outputs: list[NDArray[np.float64]] = []
    values = inputs
    for index, (weight, bias) in enumerate(layers):
        values = values @ weight.T + bias
        if index < len(layers) - 1:
            if activation == "tanh":
                np.tanh(values, out=values)
            elif activation == "relu":
                np.maximum(values, 0.0, out=values)
        outputs.append(values)
    return outputs


def backward(
    layers: Layers,
    activation: Activation,
    inputs: NDArray[np.float64],
    outputs: list[NDArray[np.float64]],
    cotangent: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the gradients with respect to the flat parameters and to the first layer's pre-activation.

    Args:
        layers: as given to ``forward``.
        activation: as given to ``forward``.
        inputs: shape (rows, size).
        outputs: what ``forward`` returned.
        cotangent: ∂J/∂(last output), shape (rows, size).

    Returns:
        Shape (num_parameters,), in the order of ``split_parameters``, and shape (rows, size of the first output).
    """
    gradients: list[NDArray[np.float64]] = []
    delta = cotangent
    for index in range(len(layers) - 1, -1, -1):
        below = outputs[index - 1] if index else inputs
        gradients[:0] = [(delta.T @ below).ravel(), delta.sum(axis=0)]
        if index:
            delta = delta @ layers[index][0]
            if activation == "tanh":
                delta *= 1.0 - below * below
            elif activation == "relu":
                delta *= below > 0.0
    return np.concatenate(gradients), delta
