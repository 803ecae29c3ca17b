"""Flat-vector perceptrons: by hand, and against torch."""

import numpy as np
import pytest
import torch

from qtrl_hpc import mlp

activations = pytest.mark.parametrize("activation", ["none", "tanh", "relu"])


@pytest.mark.parametrize(
    ("activation", "expected"), [("none", -19.5), ("relu", 2.5), ("tanh", np.tanh(2) + 2 * np.tanh(-11) + 0.5)]
)
def test_2_2_1_by_hand(activation, expected):
    """W1 = [[1, 2], [3, 4]], b1 = [5, −6], W2 = [1, 2], b2 = 1/2, input [1, −2].

    First layer: 1 − 4 + 5 = 2 and 3 − 8 − 6 = −11. Output: 2 − 22 + 1/2, or with relu 2 + 0 + 1/2.
    """
    layers = mlp.split_parameters(np.array([1, 2, 3, 4, 5, -6, 1, 2, 0.5]), (2, 2, 1))
    outputs = mlp.forward(layers, activation, np.array([1.0, -2.0]))
    np.testing.assert_allclose(outputs[-1], [expected], rtol=1e-15)


def test_backward_2_2_1_by_hand():
    """The same network with relu, cotangent 3: only the first hidden unit, 2, is on.

    dW2 = 3·[2, 0], db2 = 3; delta = 3·[1, 0]; dW1 = [3·[1, −2], 0], db1 = [3, 0].
    """
    layers = mlp.split_parameters(np.array([1, 2, 3, 4, 5, -6, 1, 2, 0.5]), (2, 2, 1))
    inputs = np.array([[1.0, -2.0]])
    outputs = mlp.forward(layers, "relu", inputs)
    gradient, delta = mlp.backward(layers, "relu", inputs, outputs, np.array([[3.0]]))
    np.testing.assert_allclose(gradient, [3, -6, 0, 0, 3, 0, 6, 0, 3])
    np.testing.assert_allclose(delta, [[3, 0]])


@activations
@pytest.mark.parametrize("sizes", [(4, 3), (3, 5, 2), (4, 6, 5, 3)])
def test_agrees_with_torch(activation, sizes, torch_mlp):
    rng = np.random.default_rng(0)
    flat = rng.normal(size=mlp.num_parameters(sizes))
    inputs, cotangent = rng.normal(size=(7, sizes[0])), rng.normal(size=(7, sizes[-1]))
    layers = mlp.split_parameters(flat, sizes)
    outputs = mlp.forward(layers, activation, inputs)
    gradient, delta = mlp.backward(layers, activation, inputs, outputs, cotangent)

    model = torch_mlp(flat, sizes, activation)
    first = model[0](torch.tensor(inputs))
    last = model[1:](first)
    wanted = torch.autograd.grad(last, [*model.parameters(), first], torch.tensor(cotangent))
    np.testing.assert_allclose(outputs[-1], last.detach(), atol=1e-13)
    np.testing.assert_allclose(gradient, torch.cat([g.ravel() for g in wanted[:-1]]), atol=1e-12)
    np.testing.assert_allclose(delta, wanted[-1], atol=1e-12)


@activations
def test_one_row_alone_is_the_same(activation):
    sizes, rng = (3, 4, 2), np.random.default_rng(0)
    layers = mlp.split_parameters(rng.normal(size=mlp.num_parameters(sizes)), sizes)
    inputs = rng.normal(size=(5, 3))
    kept = inputs.copy()
    outputs = mlp.forward(layers, activation, inputs)
    np.testing.assert_array_equal(inputs, kept)
    for row, expected in zip(inputs, outputs[-1], strict=True):
        np.testing.assert_allclose(mlp.forward(layers, activation, row)[-1], expected, atol=1e-14)


def test_split_parameters_are_views_of_the_flat_vector():
    flat = np.zeros(mlp.num_parameters((2, 3, 1)))
    mlp.split_parameters(flat, (2, 3, 1))[1][1][:] = 7.0
    assert flat[-1] == 7.0


def test_initial_parameters_are_torchs_default():
    """Uniform in ±1/√inputs, weight and bias alike: the spread is 1/√(3·inputs)."""
    sizes = (16, 400, 100)
    flat = mlp.initial_parameters(sizes, np.random.default_rng(0))
    assert flat.shape == (mlp.num_parameters(sizes),)
    for weight, bias in mlp.split_parameters(flat, sizes):
        theirs = torch.nn.Linear(weight.shape[1], weight.shape[0])
        for ours, drawn in ((weight, theirs.weight.detach().numpy()), (bias, theirs.bias.detach().numpy())):
            bound = 1 / np.sqrt(weight.shape[1])
            assert 0.95 * bound < ours.max() <= bound
            assert -bound <= ours.min() < -0.95 * bound
            assert ours.std() == pytest.approx(bound / np.sqrt(3), rel=0.15)
            assert ours.std() == pytest.approx(drawn.std(), rel=0.3)
