"""Reading theta as a policy, feeding it, and writing down how."""

import contextlib
import json
import re

import numpy as np
import pytest
import torch

from qtrl_hpc import mlp
from qtrl_hpc.errors import ReturnedError
from qtrl_hpc.policy import PolicySpec, flatten_observation, log_softmax, policy_layers, write_observation

CARTPOLE = {"obs_shape": (4,), "hidden_sizes": (128,), "num_actions": 2, "activation": "tanh"}


def make(**values):
    defaults = {"obs_shape": (7, 7, 3), "hidden_sizes": (32,), "num_actions": 3, "activation": "relu"}
    return PolicySpec(**{**defaults, "observation_key": "image", "observation_scale": 1.0, **values})


@pytest.mark.parametrize(("spec", "k"), [(make(), 4835), (make(**CARTPOLE), 898), (make(hidden_sizes=()), 444)])
def test_number_of_parameters(spec, k):
    assert spec.num_parameters == k


@pytest.mark.parametrize("spec", [make(), make(**CARTPOLE)], ids=["relu", "tanh"])
def test_theta_reads_as_torchs_fc1_fc2(spec, torch_mlp):
    rng = np.random.default_rng(0)
    theta, obs = rng.normal(size=spec.num_parameters), rng.normal(size=spec.obs_size)
    logits = mlp.forward(policy_layers(theta, spec), spec.activation, obs)[-1]
    expected = torch_mlp(theta, spec.sizes, spec.activation)(torch.tensor(obs))
    np.testing.assert_allclose(np.exp(log_softmax(logits)), torch.softmax(expected, -1).detach(), atol=1e-13)


def test_log_softmax_by_hand_and_without_overflow():
    """Logits log 1, log 2, log 5 give 1/8, 1/4, 5/8, whatever is added to all of them."""
    expected = np.log([1 / 8, 1 / 4, 5 / 8])
    for offset in (0.0, 1e4, -1e4):
        np.testing.assert_allclose(log_softmax(np.log([1.0, 2.0, 5.0]) + offset), expected, atol=1e-11)
    both = log_softmax(np.array([[0.0, 1000.0], [0.0, 0.0]]))  # each row by itself
    np.testing.assert_allclose(both, [[-1000, 0], [-np.log(2), -np.log(2)]])


def test_observation_is_flattened_row_major_and_scaled():
    image = np.array([[[1, 2], [3, 4]]], np.uint8)
    spec = make(obs_shape=(4,), observation_scale=0.5)
    flat = flatten_observation({"image": image, "mission": "go"}, spec)
    assert flat.dtype == np.float64
    np.testing.assert_array_equal(flat, [0.5, 1, 1.5, 2])
    np.testing.assert_array_equal(flatten_observation(image, make(obs_shape=(4,), observation_key=None)), [1, 2, 3, 4])


@pytest.mark.parametrize("scale", [1.0, 0.1])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64, bool])
def test_observation_written_in_place_is_scaled_in_double_precision(dtype, scale):
    """As the definition says, bit for bit, also from an array that is a view with gaps."""
    values = np.arange(24).reshape(4, 6).astype(dtype)
    spec = make(obs_shape=(4, 3), observation_key=None, observation_scale=scale)
    rows = np.full((3, 12), np.nan)
    write_observation(values[:, ::2], spec, rows[1])
    assert rows[1].tobytes() == (values[:, ::2].astype(np.float64).ravel() * scale).tobytes()
    assert np.isnan(rows[[0, 2]]).all()


@pytest.mark.parametrize("shape", [(1,), (3,), (1, 4), (5,)])
def test_observation_of_another_size_is_not_stretched(shape):
    spec = make(obs_shape=(2, 2), observation_key=None)
    words = rf"^expected observations of shape \(2, 2\), got float64 of {re.escape(str(shape))}$"
    with contextlib.nullcontext() if shape == (1, 4) else pytest.raises(ReturnedError, match=words):
        write_observation(np.ones(shape), spec, np.zeros(4))


@pytest.mark.parametrize(
    ("obs", "got"),
    [
        ({"image": np.ones(3)}, "float64 of (3,)"),
        ({"picture": np.ones(4)}, "a dict"),
        (np.ones(4), "float64 of (4,)"),
        ({"image": "abcd"}, "a str"),
        ({"image": [[1.0], [2.0, 3.0]]}, "a list"),
        (None, "None"),
    ],
)
def test_observation_that_is_none_is_told_by_what_it_is(obs, got):
    spec = make(obs_shape=(2, 2), observation_key="image")
    with pytest.raises(ReturnedError) as caught:
        write_observation(obs, spec, np.zeros(4))
    assert str(caught.value) == f"expected observations of shape (2, 2) in a dictionary, under 'image', got {got}"


@pytest.mark.parametrize("spec", [make(), make(**CARTPOLE, observation_key=None, observation_scale=0.1)])
def test_json_round_trip(spec):
    assert PolicySpec.from_json(spec.to_json()) == spec


BAD_VALUES = {
    "obs_shape": [[0], [7, -7], [1.5], ["4"], [True], 4, "4", "", {}, None],
    "hidden_sizes": [[0], [-1], [1.5], ["3"], [True], 3, "3", "", {}, None],
    "num_actions": [0, -1, 2.0, None, True],
    "activation": ["none", "sigmoid", None, 1, ["relu"]],
    "observation_key": [3, ["image"]],
    "observation_scale": ["1", None, float("nan"), float("inf"), [1.0]],
}


@pytest.mark.parametrize(("name", "bad"), [(name, bad) for name, values in BAD_VALUES.items() for bad in values])
def test_bad_value_in_a_file_is_refused(name, bad):
    values = json.loads(make().to_json())
    with pytest.raises(ValueError, match=r"^(policy|observation_)"):
        PolicySpec.from_json(json.dumps({**values, name: bad}))


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", "{", "3", make().to_json()[:-1] + ', "more": 1}', "[" * 100_000]
)
def test_text_that_is_no_policy_spec_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011  (whoever reads the file says which one)
        PolicySpec.from_json(text)
