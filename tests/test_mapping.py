"""The mapping model: the rows it reads, and its derivative."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qtrl_hpc import mapping as mapping_module
from qtrl_hpc import mlp
from qtrl_hpc.mapping import make_mapping

activations = pytest.mark.parametrize("activation", ["none", "tanh", "relu"])


def make(n=3, k=5, hidden=(), activation="none"):
    return make_mapping(num_qubits=n, num_rows=k, hidden_sizes=hidden, activation=activation)


def test_bits_most_significant_first_by_hand():
    """An affine mapping with weights 4, 2, 1 on the bits, 10 on x and bias 7 on the rows i = 0 … 4.

    Bits of i: −−−, −−+, −+−, −++, +−−, so Σ w·bit = −7, −5, −3, −1, 1.
    """
    out = make().forward(np.array([4, 2, 1, 10, 7.0]), np.array([0, 0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(out, [0, 3, 6, 9, 12], atol=1e-14)


def test_13_qubits_and_the_papers_hidden_layers_have_1515_parameters():
    assert mlp.num_parameters(make(13, 4835, (10, 64, 10)).sizes) == 150 + 704 + 650 + 11


@activations
@pytest.mark.parametrize("hidden", [(), (4,), (5, 3)])
def test_forward_is_torchs(activation, hidden, torch_mlp):
    n, k, rng = 4, 11, np.random.default_rng(0)
    mapping = make(n, k, hidden, activation)
    beta, x = rng.normal(size=mlp.num_parameters(mapping.sizes)), rng.normal(size=k)
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
    size = mlp.num_parameters(mapping.sizes)
    point, direction = rng.normal(size=(2, size + k))
    cotangent = rng.normal(size=k)
    expected = slope(lambda v: cotangent @ mapping.forward(v[:size], v[size:]), point, direction, h=1e-5)
    mapping.forward(point[:size], point[size:])
    d_beta, d_x = mapping.pullback(point[:size], cotangent)
    actual = d_beta @ direction[:size] + d_x @ direction[size:]
    assert actual == pytest.approx(expected, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 1e-5)])
def test_many_rows_are_torchs_whether_activations_are_kept_or_not(activation, dtype, tolerance, torch_mlp, monkeypatch):
    """300 rows are no whole number of blocks, of 32 or 64 rows."""
    n, k, hidden, rng = 9, 300, (5, 7, 2), np.random.default_rng(0)
    kept = make_mapping(num_qubits=n, num_rows=k, hidden_sizes=hidden, activation=activation, dtype=dtype)
    monkeypatch.setattr(mapping_module, "KEPT_BYTES", 0)
    again = make_mapping(num_qubits=n, num_rows=k, hidden_sizes=hidden, activation=activation, dtype=dtype)
    beta, x, cotangent = rng.normal(size=mlp.num_parameters(kept.sizes)), rng.normal(size=k), rng.normal(size=k)
    bits = 2.0 * (np.arange(k)[:, None] >> np.arange(n - 1, -1, -1) & 1) - 1.0
    rows = torch.tensor(np.column_stack([bits, x]), requires_grad=True)
    model = torch_mlp(beta, kept.sizes, activation)
    expected = model(rows)[:, 0]
    *d_layers, d_rows = torch.autograd.grad(expected, [*model.parameters(), rows], torch.tensor(cotangent))
    d_beta = torch.cat([layer.ravel() for layer in d_layers]).numpy()
    for mapping in (kept, again):
        np.testing.assert_allclose(mapping.forward(beta, x), expected.detach(), rtol=tolerance, atol=10 * tolerance)
        ours, d_x = mapping.pullback(beta, cotangent)
        np.testing.assert_allclose(ours, d_beta, rtol=0, atol=tolerance * np.abs(d_beta).max() * 10)
        np.testing.assert_allclose(d_x, d_rows[:, -1], rtol=0, atol=10 * tolerance)
        assert ours.dtype == d_x.dtype == np.float64


def test_tanh_far_out_and_near_zero():
    """One row of weight 1 on x: tanh from tiny to saturated, and not a number stays so."""
    x = np.array([0.0, 1e-300, -1e-9, 1e-4, -0.17328, 0.5198, 1.0, -5.0, 19.0, 22.0, -400.0, 1e300, np.inf, -np.inf])
    mapping = make(4, len(x), (1,), "tanh")
    beta = np.array([0, 0, 0, 0, 1, 0, 1, 0.0])  # weights on the bits, on x, bias; then weight and bias of the output
    np.testing.assert_allclose(mapping.forward(beta, x), np.tanh(x), rtol=1e-15)
    assert np.isnan(mapping.forward(beta, np.where(x == 1.0, np.nan, x))).tolist() == (x == 1.0).tolist()


@pytest.mark.parametrize("activation", ["none", "tanh"])
def test_wrong_lengths_are_refused(activation):
    """The kernels do not look where an array ends."""
    mapping = make(4, 11, (3,), activation)
    beta, x = np.zeros(mlp.num_parameters(mapping.sizes)), np.zeros(11)
    mapping.forward(beta, x)
    for call in (
        lambda: mapping.forward(beta[:-1], x),
        lambda: mapping.forward(beta, x[:-1]),
        lambda: mapping.pullback(beta[:-1], x),
        lambda: mapping.pullback(beta, x[:-1]),
    ):
        with pytest.raises(ValueError, match=r"^\w+: got shape \(\d+,\), expected \(\d+,\)$"):
            call()


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_rows_may_be_changed_between_forward_and_pullback(activation):
    mapping, rng = make(4, 11, (3,), activation), np.random.default_rng(0)
    beta, x, cotangent = rng.normal(size=mlp.num_parameters(mapping.sizes)), rng.normal(size=11), rng.normal(size=11)
    mapping.forward(beta, x)
    before = mapping.pullback(beta, cotangent)[0]
    x[:] = 0.0
    np.testing.assert_array_equal(mapping.pullback(beta, cotangent)[0], before)
