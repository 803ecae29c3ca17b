"""A policy file acts as the policy that was trained, where there is nothing quantum and no MPI."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from qtrl_hpc import mlp
from qtrl_hpc.errors import UserError
from qtrl_hpc.inference import Policy, checked_device, load_policy
from qtrl_hpc.policy import PolicySpec, flatten_observation, log_softmax, policy_layers
from qtrl_hpc.policy_file import PolicyFile


def make(obs_shape=(4,), hidden_sizes=(8,), num_actions=3, activation="relu", key=None, scale=1.0, seed=0):
    spec = PolicySpec(
        obs_shape=obs_shape,
        hidden_sizes=hidden_sizes,
        num_actions=num_actions,
        activation=activation,
        observation_key=key,
        observation_scale=scale,
    )
    return spec, np.random.default_rng(seed).normal(size=spec.num_parameters)


def by_numpy(spec, theta, obs):
    """π(a|s) as training computes it."""
    return np.exp(
        log_softmax(mlp.forward(policy_layers(theta, spec), spec.activation, flatten_observation(obs, spec))[-1])
    )


@pytest.mark.parametrize(
    "kind",
    [
        {"activation": "relu"},
        {"activation": "tanh", "hidden_sizes": (6, 5), "scale": 0.1},
        {"hidden_sizes": (), "num_actions": 1},
        {"obs_shape": (7, 7, 3), "hidden_sizes": (32,), "key": "image", "scale": 0.5},
    ],
    ids=str,
)
def test_torch_policy_is_the_numpy_policy(kind):
    spec, theta = make(**kind)
    policy = Policy(spec, theta)
    arrays = np.random.default_rng(1).normal(size=(5, *spec.obs_shape))
    batch = [{"image": one} for one in arrays] if spec.observation_key else list(arrays)
    expected = np.array([by_numpy(spec, theta, one) for one in batch])
    for given in (batch, arrays, arrays.reshape(5, -1), {"image": arrays} if spec.observation_key else tuple(batch)):
        np.testing.assert_allclose(policy.probabilities(given), expected, rtol=0, atol=1e-12)
    for one, array, pi in zip(batch, arrays, expected, strict=True):
        for given in (one, array, array.ravel(), array.ravel().tolist()):
            assert policy.probabilities(given).shape == (spec.num_actions,)
            np.testing.assert_allclose(policy.probabilities(given), pi, rtol=0, atol=1e-12)


def test_image_of_bytes_is_read_as_numbers():
    spec, theta = make(obs_shape=(2, 2), key="image", scale=0.01)
    image = np.array([[255, 0], [128, 1]], np.uint8)
    np.testing.assert_allclose(
        Policy(spec, theta).probabilities({"image": image, "mission": "go"}), by_numpy(spec, theta, {"image": image})
    )


def test_act_takes_the_most_probable_action():
    spec, theta = make()
    policy, batch = Policy(spec, theta), np.random.default_rng(1).normal(size=(50, 4))
    best = policy.probabilities(batch).argmax(axis=1)
    assert len(set(best)) > 1
    np.testing.assert_array_equal(policy.act(batch), best)
    for one, expected in zip(batch, best, strict=True):
        action = policy.act(one)
        assert type(action) is int
        assert action == expected


def test_sample_draws_each_action_as_often_as_its_probability():
    """Within five standard deviations, σ² = π(1 − π)/n, of 20 000 draws; single and batch from the same stream."""
    spec, theta = make()
    policy, obs, n = Policy(spec, theta), np.array([0.1, -0.3, 0.2, 0.4]), 20_000
    pi = policy.probabilities(obs)
    assert pi.min() > 0.02
    actions = policy.sample(np.tile(obs, (n, 1)), np.random.default_rng(2))
    frequencies = np.bincount(actions, minlength=3) / n
    assert (np.abs(frequencies - pi) < 5 * np.sqrt(pi * (1 - pi) / n)).all()
    rng = np.random.default_rng(2)
    singly = [policy.sample(obs, rng) for _ in range(300)]
    assert type(singly[0]) is int
    assert singly == actions[:300].tolist()


@pytest.mark.parametrize(("uniform", "action"), [(0.0, 0), (np.nextafter(1, 0), 2)])
def test_sample_at_the_ends_of_the_unit_interval(uniform, action):
    class Fixed:
        def random(self, shape=()):
            return np.full(shape, uniform)

    spec, theta = make()
    assert Policy(spec, theta).sample(np.zeros(4), Fixed()) == action


@pytest.mark.parametrize("shape", [(3,), (5,), (2, 5), (1, 2, 4), ()])
def test_observation_of_another_size_is_refused(shape):
    spec, theta = make()
    with pytest.raises(ValueError, match="observation: got shape"):
        Policy(spec, theta).probabilities(np.zeros(shape))


def test_load_policy_reads_what_was_saved(tmp_path):
    spec, theta = make()
    PolicyFile(theta=theta, spec=spec, env_id="CartPole-v1", provenance={}).save(tmp_path / "p.h5")
    for path in (tmp_path / "p.h5", str(tmp_path / "p.h5")):
        policy = load_policy(path)
        np.testing.assert_allclose(policy.probabilities(np.ones(4)), by_numpy(spec, theta, np.ones(4)), atol=1e-12)
    with pytest.raises(UserError, match=r"none\.h5: .*[nN]o such file"):
        load_policy(tmp_path / "none.h5")


def test_policy_does_not_share_theta():
    spec, theta = make()
    policy = Policy(spec, theta)
    before = policy.probabilities(np.ones(4))
    theta[:] = 0.0
    np.testing.assert_array_equal(policy.probabilities(np.ones(4)), before)


BLOCKED = """
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"qiskit", "qiskit_aer", "mpi4py", "numba", "gymnasium", "minigrid", "jsonargparse"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Refuse())
try:
    import qiskit
except ImportError:
    import numpy as np
    from qtrl_hpc.inference import load_policy
    policy = load_policy(sys.argv[1])
    print(policy.act(np.ones(4)), policy.sample(np.ones((2, 4)), np.random.default_rng(0)).shape)
"""


def test_policy_acts_where_nothing_quantum_and_no_mpi_can_be_imported(tmp_path):
    spec, theta = make()
    PolicyFile(theta=theta, spec=spec, env_id="CartPole-v1", provenance={}).save(tmp_path / "p.h5")
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(tmp_path / "p.h5")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.stdout == f"{load_policy(tmp_path / 'p.h5').act(np.ones(4))} (2,)\n", done.stderr


@pytest.mark.parametrize("device", ["nonsense", "", "0", "cuda:99", "meta", "hpu", "cpu:x"])
def test_device_that_is_not_there_is_refused(device):
    with pytest.raises(UserError, match=f"--device: got {device!r}, expected cpu"):
        checked_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch finds a GPU")
def test_cuda_is_refused_where_torch_finds_none():
    with pytest.raises(UserError, match="--device: got 'cuda', expected cpu"):
        checked_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
def test_cuda_policy_is_the_numpy_policy(tmp_path):
    spec, theta = make(obs_shape=(7, 7, 3), hidden_sizes=(32,))
    PolicyFile(theta=theta, spec=spec, env_id="MiniGrid-Empty-5x5-v0", provenance={}).save(tmp_path / "p.h5")
    policy, batch = load_policy(tmp_path / "p.h5", device="cuda"), np.random.default_rng(1).normal(size=(9, 7, 7, 3))
    assert next(policy.parameters()).is_cuda
    np.testing.assert_allclose(policy.probabilities(batch), [by_numpy(spec, theta, one) for one in batch], atol=1e-12)
    assert policy.act(batch[0]) == by_numpy(spec, theta, batch[0]).argmax()
