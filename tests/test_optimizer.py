"""Clipping, plain ascent and Adam: by hand, and against torch."""

import numpy as np
import pytest
import torch

from qtrl_hpc.config import OptimizerConfig
from qtrl_hpc.optimizer import OptimizerState, ascend, clip_by_norm


def test_clipping_by_hand():
    """The norm of (3, 4) is 5."""
    gradient = np.array([3.0, 4.0])
    np.testing.assert_allclose(clip_by_norm(gradient, 1.0), [0.6, 0.8])
    for loose in (5.0, 10.0, None):
        np.testing.assert_array_equal(clip_by_norm(gradient, loose), [3, 4])
    np.testing.assert_array_equal(clip_by_norm(np.zeros(2), 1.0), [0, 0])


def test_one_sgd_step_goes_uphill_along_the_clipped_gradient():
    config = OptimizerConfig(optimizer="sgd", learning_rate=0.5, max_grad_norm=1.0)
    vector, state = ascend(np.array([1.0, 1.0]), np.array([3.0, 4.0]), OptimizerState.zeros(2), config)
    np.testing.assert_allclose(vector, [1.3, 1.4])
    assert state.steps == 1


def test_two_adam_steps_by_hand():
    """Learning rate 0.1, gradients 2 and then −1.

    First step: first/(1 − 0.9) = 2, second/(1 − 0.999) = 4, so + 0.1·2/(2 + 1e-8).
    Second: first = 0.9·0.2 − 0.1 = 0.08, over 1 − 0.81 = 0.19; second = 0.999·0.004 + 0.001 = 0.004996,
    over 1 − 0.998001 = 0.001999; so + 0.1·(0.08/0.19)/√(0.004996/0.001999).
    """
    config = OptimizerConfig(optimizer="adam", learning_rate=0.1)
    vector, state = ascend(np.array([5.0]), np.array([2.0]), OptimizerState.zeros(1), config)
    np.testing.assert_allclose(vector, [5 + 0.1 * 2 / (2 + 1e-8)], rtol=1e-15)
    np.testing.assert_allclose([state.first[0], state.second[0], state.steps], [0.2, 0.004, 1])
    vector, state = ascend(vector, np.array([-1.0]), state, config)
    np.testing.assert_allclose(vector, [5.1 + 0.1 * (0.08 / 0.19) / np.sqrt(0.004996 / 0.001999)], rtol=1e-9)
    np.testing.assert_allclose([state.first[0], state.second[0], state.steps], [0.08, 0.004996, 2])


@pytest.mark.parametrize("max_grad_norm", [None, 1.5])
@pytest.mark.parametrize(("name", "theirs"), [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_twenty_steps_are_torchs(name, theirs, max_grad_norm):
    """Their clipping divides by the norm + 1e-6, hence the tolerance with it."""
    rng = np.random.default_rng(0)
    vector, state = rng.normal(size=6), OptimizerState.zeros(6)
    parameter = torch.tensor(vector, requires_grad=True)
    optimizer = theirs([parameter], lr=0.03, maximize=True)
    config = OptimizerConfig(optimizer=name, learning_rate=0.03, max_grad_norm=max_grad_norm)
    for scale in np.geomspace(1e-6, 10, 20):
        gradient = rng.normal(scale=scale, size=6)
        vector, state = ascend(vector, gradient, state, config)
        parameter.grad = torch.tensor(gradient)
        if max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_([parameter], max_grad_norm)
        optimizer.step()
        np.testing.assert_allclose(vector, parameter.detach(), rtol=0, atol=1e-14 if max_grad_norm is None else 1e-6)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_arguments_are_left_alone(name):
    """An update that is given up must not have moved anything."""
    arguments = vector, gradient, first, second = np.ones(2), np.full(2, 3.0), np.full(2, 0.1), np.full(2, 0.2)
    kept = [array.copy() for array in arguments]
    state = OptimizerState(first=first, second=second, steps=4)
    config = OptimizerConfig(optimizer=name, max_grad_norm=1.0)
    _, after = ascend(vector, gradient, state, config)
    assert (state.steps, after.steps) == (4, 5)
    for array, copy in zip(arguments, kept, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_step_halves_with_the_steps_taken(name):
    """Half-life 2: the first step is of the full size, the third of half, the fifth of a quarter."""
    gradients, moved = np.random.default_rng(0).normal(size=(5, 3)), {}
    for half_life in (None, 2):
        config = OptimizerConfig(optimizer=name, learning_rate=0.1, learning_rate_half_life=half_life)
        vector, state, moves = np.zeros(3), OptimizerState.zeros(3), []
        for gradient in gradients:
            before = vector
            vector, state = ascend(vector, gradient, state, config)
            moves.append(vector - before)
        moved[half_life] = np.array(moves)
    halves = moved[2] / moved[None]
    np.testing.assert_allclose(halves[::2], np.repeat([[1], [0.5], [0.25]], 3, axis=1), rtol=1e-12)
    np.testing.assert_allclose(halves[1::2], np.repeat([[0.5**0.5], [0.5**1.5]], 3, axis=1), rtol=1e-12)
