"""Policies with a network of the user's own, as files of each format: only who names its module has it imported."""

import dataclasses
import json
import sys

import numpy as np
import onnxruntime
import pytest

from qtrl_hpc import evaluate, export, infer
from qtrl_hpc.checkpoint import Checkpoint, TrainingState
from qtrl_hpc.config import Config
from qtrl_hpc.environment import make_environment, policy_spec
from qtrl_hpc.generator import Theta
from qtrl_hpc.inference import load_policy
from qtrl_hpc.optimizer import OptimizerState
from qtrl_hpc.policy_file import PolicyFile
from qtrl_hpc.reinforce import Baseline

SUFFIXES = (".h5", ".safetensors", ".onnx")
CONFIG = Config(
    env_id="CartPole-v1", num_actions=2, policy_hidden_sizes=(8, 5), policy="classical", observation_scale=0.5
)


def checkpoint(folder, network, **changes):
    """A checkpoint of a policy with such a network, drawn; its module is imported to count its weights."""
    config = dataclasses.replace(CONFIG, policy_network=network, **changes)
    spec = policy_spec(make_environment(config.env_id), config, config)
    theta = np.random.default_rng(1).normal(size=spec.num_parameters)
    state = TrainingState(
        update=0, Theta=Theta(theta, 0), optimizer=OptimizerState.zeros(theta.size), baseline=Baseline()
    )
    path = folder / "checkpoint.h5"
    Checkpoint(state=state, theta=theta, config=config, policy_spec=spec, num_agents=1, world_size=1).save(path)
    return path


def outputs(folder, suffixes=SUFFIXES):
    return [f"--output={folder / f'p{suffix}'}" for suffix in suffixes]


def run_onnx(path, observations):
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, settings)
    return session.run(["probabilities"], {"observation": observations.astype(np.float32)})[0]


@pytest.mark.parametrize("name", ["network", "WithBuffer", "Folded"])
def test_all_formats_are_the_same_policy(tmp_path, name, capsys):
    network = f"support_own:{name}"
    source = checkpoint(tmp_path, network)
    flags = [str(source), f"--policy-network={network}", "--episodes=3"]
    assert export.main([*flags, *outputs(tmp_path)]) == 0
    assert f"--policy-network {network}" in capsys.readouterr().out
    observations = np.random.default_rng(2).normal(scale=3.0, size=(200, 4)).astype(np.float32)
    policies = [load_policy(tmp_path / f"p{suffix}", network=network) for suffix in SUFFIXES]
    expected = policies[0].probabilities(observations)
    assert set(policies[0].act(observations)) == {0, 1}
    for policy in policies:
        assert policy.probabilities(observations).tobytes() == expected.tobytes()
    found = run_onnx(tmp_path / "p.onnx", observations)
    assert np.abs(found - expected).max() <= 1e-6
    assert run_onnx(tmp_path / "p.onnx", observations[:1]).shape == (1, 2)
    np.testing.assert_array_equal(found.argmax(axis=1), policies[0].act(observations))
    first, *others = [PolicyFile.load(tmp_path / f"p{suffix}") for suffix in SUFFIXES]
    assert first.theta.tobytes() == Checkpoint.load(source).theta.tobytes()
    for other in others:
        assert other.theta.tobytes() == first.theta.tobytes()
        assert (other.spec, other.provenance) == (first.spec, first.provenance)
    assert first.provenance["evaluation"]["episodes"] == 3


def test_card_says_whose_network_it_is_and_how_to_name_it(tmp_path):
    network = "support_own:network"
    source = checkpoint(tmp_path, network)
    assert (
        export.main([str(source), f"--policy-network={network}", *outputs(tmp_path, SUFFIXES[:2]), "--episodes=2"]) == 0
    )
    text = (tmp_path / "p.md").read_text()
    for words in (
        "`support_own:network` of its maker's own, 97 weights",
        "python -m qtrl_hpc.infer p.h5 --policy-network support_own:network --episodes 5",
        'load_policy("p.h5", network="support_own:network")',
        "| `p.safetensors` |",
        "without circuits",
    ):
        assert words in text, words
    assert "torch.nn.Sequential" not in text
    assert "QPU of its own" not in text


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A checkpoint whose network's module, not imported here, would leave a mark."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "marking.py").write_text(
        "import pathlib\nfrom support_own import network\npathlib.Path('mark').touch()\n"
    )
    source = checkpoint(tmp_path, "marking:network")
    (tmp_path / "mark").unlink()
    sys.modules.pop("marking")
    yield source
    sys.modules.pop("marking", None)


def test_without_its_name_only_h5_is_written_and_nothing_imported(stranger, tmp_path, capsys):
    assert export.main([str(stranger), *outputs(tmp_path, [".h5"])]) == 0
    said = capsys.readouterr()
    assert "warning: not evaluated: expected --policy-network marking:network from you" in said.err
    assert "qtrl_hpc.evaluate" in said.out
    assert "Not evaluated: expected --policy-network marking:network" in (tmp_path / "p.md").read_text()
    assert PolicyFile.load(tmp_path / "p.h5").spec.network == "marking:network"
    (tmp_path / "p.h5").unlink()
    (tmp_path / "p.md").unlink()
    for suffixes in ([".safetensors"], [".onnx"], SUFFIXES):
        assert export.main([str(stranger), *outputs(tmp_path, suffixes)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: --policy-network: got none, expected marking:network")
        assert error.count("\n") == 1
    assert not (tmp_path / "mark").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.h5", "marking.py"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_infer_and_evaluate_import_it_only_when_it_is_named(stranger, tmp_path, suffix, capsys):
    named = "--policy-network=marking:network"
    assert export.main([str(stranger), named, *outputs(tmp_path, [suffix]), "--episodes=0"]) == 0
    (tmp_path / "mark").unlink()
    sys.modules.pop("marking")
    path = str(tmp_path / f"p{suffix}")
    capsys.readouterr()
    for command in (infer.main, evaluate.main):
        assert command([path, "--episodes=1"]) == 2
        assert "expected marking:network" in capsys.readouterr().err
    assert not (tmp_path / "mark").exists()
    rewards = []
    for command in (infer.main, evaluate.main):
        assert command([path, "--episodes=2", "--json", named]) == 0
        rewards.append(json.loads(capsys.readouterr().out)["reward_mean"])
    assert rewards[0] == rewards[1]
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("support_own:Branches", "torch cannot export the network support_own:Branches"),
        ("support_own:Convolution", "onnxruntime cannot run the network support_own:Convolution"),
    ],
)
def test_network_that_onnx_cannot_have_is_refused_in_one_line(tmp_path, name, words, capfd):
    source = checkpoint(tmp_path, name)
    assert export.main([str(source), f"--policy-network={name}", *outputs(tmp_path)]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: --output: got .onnx, expected .h5 or .safetensors: {words}")
    assert said.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.h5"]
    assert export.main([str(source), f"--policy-network={name}", *outputs(tmp_path, SUFFIXES[:2]), "--episodes=0"]) == 0


@pytest.mark.parametrize(
    ("of", "named", "words"),
    [
        ("mlp", "support_own:network", "expected none: the policy's network is an mlp"),
        ("support_own:network", "support_own:WithBuffer", "expected a network of 97 parameters, got one of 12"),
        ("support_own:network", "support_own:netwrok", "(did you mean network?)"),
        ("support_own:network", "nowhere_here:x", "No module named 'nowhere_here'"),
        ("support_own:network", "mlp", "expected one of MODULE:OBJECT"),
    ],
)
def test_another_network_than_the_policy_s_is_refused(tmp_path, of, named, words, capsys):
    source = checkpoint(tmp_path, of)
    assert export.main([str(source), f"--policy-network={named}", *outputs(tmp_path, [".h5"])]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --policy-network: got '{named}'")
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "p.h5").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"policy_hidden_sizes": ()},
        {"env_id": "MiniGrid-Empty-5x5-v0", "num_actions": 3, "observation_scale": 0.1, "policy_hidden_sizes": (6,)},
    ],
    ids=["no hidden layer", "dictionary"],
)
def test_greedy_actions_are_those_of_every_format(tmp_path, changes):
    source = checkpoint(tmp_path, "mlp", **changes)
    assert export.main([str(source), *outputs(tmp_path), "--episodes=2"]) == 0
    policies = [load_policy(tmp_path / f"p{suffix}") for suffix in SUFFIXES]
    env = make_environment(changes.get("env_id", "CartPole-v1"))
    env.observation_space.seed(3)
    observations = [env.observation_space.sample() for _ in range(100)]
    key = policies[0].spec.observation_key
    arrays = np.stack([obs if key is None else obs[key] for obs in observations])
    actions = policies[0].act(observations)
    assert len(set(actions)) > 1
    for policy in policies:
        np.testing.assert_array_equal(policy.act(observations), actions)
        assert [policy.act(obs) for obs in observations[:5]] == actions[:5].tolist()
    np.testing.assert_array_equal(run_onnx(tmp_path / "p.onnx", arrays).argmax(axis=1), actions)
