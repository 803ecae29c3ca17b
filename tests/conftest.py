"""Shared oracles. Everything random in these tests comes from a fixed seed."""

import itertools

import hypothesis
import numpy as np
import pytest
import torch

hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=25, database=None)
hypothesis.settings.load_profile("fixed")


def _slope(f, x, direction, h=1e-3):
    """Return d/ds f(x + s·direction) at s = 0 by the five-point central difference, whose error is of order h⁴."""
    near = f(x + h * direction) - f(x - h * direction)
    far = f(x + 2 * h * direction) - f(x - 2 * h * direction)
    return (8 * near - far) / (12 * h)


@pytest.fixture(scope="session")
def slope():
    return _slope


@pytest.fixture(scope="session")
def numerical_gradient():
    """Differentiate a scalar function along every axis of a vector."""
    return lambda f, x, h=1e-3: np.array([_slope(f, x, axis, h) for axis in np.eye(len(x))])


@pytest.fixture(scope="session")
def torch_mlp():
    """Load a flat vector into a torch model, whose parameters come in the order weight, bias, weight, …"""
    activations = {"none": torch.nn.Identity, "tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}

    def build(flat, sizes, activation):
        modules = []
        for inputs, outputs in itertools.pairwise(sizes):
            modules += [torch.nn.Linear(inputs, outputs, dtype=torch.float64), activations[activation]()]
        model = torch.nn.Sequential(*modules[:-1])
        torch.nn.utils.vector_to_parameters(torch.tensor(flat), model.parameters())
        return model

    return build
