"""The mapping model: the rows it reads, and its derivative."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qtrl_hpc.mapping import Mapping

activations = pytest.mark.parametrize("activation", ["none", "tanh", "relu"])


def make(n=3, k=5, hidden=(), activation="none"):
    return Mapping(num_qubits=n, num_rows=k, hidden_sizes=hidden, activation=activation)


def test_bits_most_significant_first_by_hand():
    """An affine mapping with weights 4, 2, 1 on the bits, 10 on x and bias 7 on the rows i = 0 … 4.

    Bits of i: −−−, −−+, −+−, −++, +−−, so Σ w·bit = −7, −5, −3, −1, 1.
    """
    out = make().forward(np.array([4, 2, 1, 10, 7.0]), np.array([0, 0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(out, [0, 3, 6, 9, 12], atol=1e-14)


def test_13_qubits_and_the_papers_hidden_layers_have_1515_parameters():
    assert make(13, 4835, (10, 64, 10)).num_parameters == 150 + 704 + 650 + 11


@activations
@pytest.mark.parametrize("hidden", [(), (4,), (5, 3)])
def test_forward_is_torchs(activation, hidden, torch_mlp):
    n, k, rng = 4, 11, np.random.default_rng(0)
    mapping = make(n, k, hidden, activation)
    beta, x = rng.normal(size=mapping.num_parameters), rng.normal(size=k)
    rows = [[*(2.0 * int(bit) - 1.0 for bit in f"{i:0{n}b}"), x[i]] for i in range(k)]
    expected = torch_mlp(beta, (n + 1, *hidden, 1), activation)(torch.tensor(rows, dtype=torch.float64))
    np.testing.assert_allclose(mapping.forward(beta, x), expected.detach()[:, 0], atol=1e-13)


@given(
    n=st.integers(1, 4),
    hidden=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    activation=st.sampled_from(["none", "tanh", "relu"]),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_pullback_against_differences(n, hidden, activation, seed, data, slope):
    """The gradient of Σ g_i out_i with respect to (beta, x), along a random direction."""
    k = data.draw(st.integers(1, 2**n))
    mapping, rng = make(n, k, hidden, activation), np.random.default_rng(seed)
    size = mapping.num_parameters
    point, direction = rng.normal(size=(2, size + k))
    cotangent = rng.normal(size=k)
    expected = slope(lambda v: cotangent @ mapping.forward(v[:size], v[size:]), point, direction, h=1e-5)
    mapping.forward(point[:size], point[size:])
    d_beta, d_x = mapping.pullback(point[:size], cotangent)
    actual = d_beta @ direction[:size] + d_x @ direction[size:]
    assert actual == pytest.approx(expected, rel=1e-7, abs=1e-7)
