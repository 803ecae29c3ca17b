"""Policy networks of the user's own: as the mlp where they are one, named in files, and imported for nobody's word."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch

from qtrl_hpc import evaluate
from qtrl_hpc.agents import MlpPolicy, make_network
from qtrl_hpc.checkpoint import Checkpoint
from qtrl_hpc.config import Config
from qtrl_hpc.environment import make_environment, policy_spec
from qtrl_hpc.errors import UserError
from qtrl_hpc.factory import make_generator
from qtrl_hpc.inference import Policy, load_policy
from qtrl_hpc.optimizer import OptimizerState
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.policy_file import PolicyFile
from qtrl_hpc.reinforce import Baseline, Batch

CONFIG = Config(
    env_id="CartPole-v1", num_actions=2, policy_hidden_sizes=(8, 5), policy_network="support_own:network",
    entropy_coefficient=0.1, logit_penalty=0.02,
)  # fmt: skip
OWN = policy_spec(make_environment("CartPole-v1"), CONFIG, CONFIG)
MLP = dataclasses.replace(OWN, network="mlp", network_parameters=None)
RNG = np.random.default_rng(0)
THETA = RNG.normal(size=OWN.num_parameters)


def spec_of(name, **values):
    config = dataclasses.replace(CONFIG, policy_network=f"support_own:{name}", **values)
    return policy_spec(make_environment("CartPole-v1"), config, config)


def test_parameters_are_counted():
    assert OWN.num_parameters == MLP.num_parameters == 4 * 8 + 8 + 8 * 5 + 5 + 5 * 2 + 2
    assert (OWN.network, OWN.shape, MLP.shape) == ("support_own:network", "support_own:network", "4-8-5-2")
    assert spec_of("WithBuffer").num_parameters == 2 + 4 * 2 + 2


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_mlp_as_a_torch_module_is_the_mlp(activation):
    """Actions of one theta, gradient and entropy; dropout is off."""
    own, mlp = (dataclasses.replace(spec, activation=activation) for spec in (OWN, MLP))
    ours, theirs = make_network(own, 1), make_network(mlp, 1)
    assert isinstance(theirs, MlpPolicy)
    obs, uniforms = RNG.normal(size=(200, 4)), RNG.random(200)
    assert [ours.actor(THETA)(*each) for each in zip(obs, uniforms, strict=True)] == [
        theirs.actor(THETA)(*each) for each in zip(obs, uniforms, strict=True)
    ]
    batch = Batch(obs, RNG.integers(0, 2, 200), RNG.normal(size=200), RNG.random(200))
    found, expected = ours.gradient(batch, THETA, CONFIG, 3), theirs.gradient(batch, THETA, CONFIG, 3)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-12)
    assert found[1] == pytest.approx(expected[1], rel=1e-12)


def test_actors_of_several_thetas_do_not_mix():
    ours, theirs = make_network(OWN, 1), make_network(MLP, 1)
    thetas, obs = [THETA, -THETA], RNG.normal(size=4)
    actors = [ours.actor(theta) for theta in thetas]
    for actor, theta in zip(actors, thetas, strict=True):
        assert [actor(obs, u) for u in np.linspace(0, 0.99, 30)] == [
            theirs.actor(theta)(obs, u) for u in np.linspace(0, 0.99, 30)
        ]


def test_gradient_against_differences_with_a_buffer_and_an_unused_parameter(numerical_gradient):
    spec = spec_of("WithBuffer")
    network, theta = make_network(spec, 1), np.random.default_rng(2).normal(size=spec.num_parameters)
    obs, actions, advantage, weight = RNG.normal(size=(9, 4)), RNG.integers(0, 2, 9), RNG.normal(size=9), RNG.random(9)
    config = dataclasses.replace(CONFIG, entropy_coefficient=0.0, logit_penalty=0.0)

    def objective(theta):
        pi = np.array([Policy(spec, theta, spec.network).probabilities(each) for each in obs])
        return (weight * advantage * np.log(pi[np.arange(9), actions])).sum()

    gradient, _ = network.gradient(Batch(obs, actions, advantage, weight), theta, config, 0)
    expected = numerical_gradient(objective, theta)
    assert gradient[:2].tolist() == [0.0, 0.0], "of the parameter that has no effect"
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-9)


def test_logits_of_another_shape_in_the_middle_of_training_are_no_action_and_no_gradient():
    spec = spec_of("Grows")
    network, theta, obs = make_network(spec, 1), RNG.normal(size=10), RNG.normal(size=(3, 4))
    actor = network.actor(theta)
    assert {actor(obs[0], 0.999), actor(obs[0], 0.0)} <= {0, 1}  # the third and fourth call: it was tried twice
    words = r"^--policy-network: got 'support_own:Grows', expected a network that returns torch.float64 of "
    with pytest.raises(UserError, match=words + r"\(1, 2\), got torch.float64 of \(1, 3\)$"):
        actor(obs[0], 0.999)
    with pytest.raises(UserError, match=words + r"\(3, 2\), got torch.float64 of \(3, 3\)$"):
        network.gradient(Batch(obs, np.zeros(3, int), np.ones(3), np.ones(3)), theta, CONFIG, 0)


def test_building_a_network_leaves_torchs_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    make_network(spec_of("WithBuffer"), 1)
    assert torch.equal(torch.rand(3), expected)


def test_trained_directly_it_starts_as_its_layers_do():
    config = dataclasses.replace(CONFIG, policy="classical")
    generator = make_generator(config, OWN)
    first, again = (generator.initial(np.random.default_rng(3)) for _ in "ab")
    other = generator.initial(np.random.default_rng(4))
    assert first.vector.tobytes() == again.vector.tobytes() != other.vector.tobytes()
    assert first.vector.dtype == np.float64
    assert first.vector.shape == (OWN.num_parameters,)
    assert 0.3 < np.abs(first.vector[:40]).max() <= 0.5, "uniform in ±1/√4"


# --- files ---


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "policy.h5"
    PolicyFile(theta=THETA, spec=OWN, env_id="CartPole-v1", provenance={}).save(path)
    return path


def test_policy_file_names_the_network(saved):
    file = PolicyFile.load(saved)
    assert file.spec == OWN
    obs = RNG.normal(size=(7, 4))
    found = load_policy(saved, network="support_own:network").probabilities(obs)
    np.testing.assert_allclose(found, Policy(MLP, THETA).probabilities(obs), atol=1e-14)


def test_files_of_an_mlp_are_as_before_and_older_ones_are_read():
    assert "network" not in json.loads(MLP.to_json())
    assert PolicySpec.from_json(MLP.to_json()) == MLP
    assert PolicySpec.from_json(OWN.to_json()) == OWN
    older = {
        name: value for name, value in CONFIG.to_dict().items() if name not in ("policy_network", "ansatz", "mapping")
    }
    assert Config.from_dict(older) == dataclasses.replace(CONFIG, policy_network="mlp")


@pytest.mark.parametrize(
    "values",
    [
        {"network": "support_own:network", "network_parameters": None},
        {"network": "support_own:network", "network_parameters": 0},
        {"network": "support_own:network", "network_parameters": 1.0},
        {"network": "mlp", "network_parameters": 3},
        {"network": "os.system", "network_parameters": 3},
        {"network": 3, "network_parameters": 3},
    ],
    ids=str,
)
def test_spec_that_makes_no_sense_is_refused(values):
    with pytest.raises(ValueError, match=r"expected|got"):
        dataclasses.replace(OWN, **values)


def test_module_that_a_file_names_is_not_imported_unless_the_caller_says_so(tmp_path, monkeypatch, capsys):
    """The module would leave a mark. Neither loading, exporting nor evaluating imports it; naming it does."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stranger.py").write_text(
        "import pathlib\nfrom support_own import network\npathlib.Path('mark').touch()\n"
    )
    spec, path = dataclasses.replace(OWN, network="stranger:network"), tmp_path / "policy.h5"
    PolicyFile(theta=THETA, spec=spec, env_id="CartPole-v1", provenance={}).save(path)
    words = "--policy-network: got none, expected stranger:network (load_policy: network=) from you, if you trust it"
    for refuse in (lambda: load_policy(path), lambda: Policy(spec, THETA)):
        with pytest.raises(UserError) as caught:
            refuse()
        assert words in str(caught.value)
    assert evaluate.main([str(path), "--episodes=1"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {words}")
    assert not (tmp_path / "mark").exists()
    assert "stranger" not in sys.modules
    assert evaluate.main([str(path), "--episodes=1", "--policy-network=support_own:network"]) == 0
    assert not (tmp_path / "mark").exists()
    assert evaluate.main([str(path), "--episodes=1", "--policy-network=stranger:network"]) == 0
    assert (tmp_path / "mark").exists()


def test_checkpoint_that_names_a_network_is_read_without_it(tmp_path):
    from qtrl_hpc.checkpoint import TrainingState
    from qtrl_hpc.generator import Theta

    spec = dataclasses.replace(OWN, network="nowhere_here:network")
    state = TrainingState(
        update=0, Theta=Theta(THETA, 0), optimizer=OptimizerState.zeros(THETA.size), baseline=Baseline()
    )
    config = dataclasses.replace(CONFIG, policy_network="nowhere_here:network", ansatz="nowhere_here:ansatz")
    Checkpoint(state=state, theta=THETA, config=config, policy_spec=spec, num_agents=1, world_size=1).save(
        tmp_path / "checkpoint.h5"
    )
    read = Checkpoint.load(tmp_path / "checkpoint.h5")
    assert (read.policy_spec, read.config) == (spec, config)
    with pytest.raises(UserError, match=r"^--ansatz: got 'nowhere_here:ansatz', expected 'ring' as in "):
        CONFIG.__class__.check_resumes(config, dataclasses.replace(config, ansatz="ring"), "checkpoint.h5")


def test_policy_with_another_network_than_the_callers(saved, tmp_path):
    for name, words in (
        ("support_own:WithBuffer", "expected a network of 97 parameters, got one of 12"),
        ("support_own:netwrok", "(did you mean network?)"),
        ("mlp", "expected one of MODULE:OBJECT"),
    ):
        with pytest.raises(UserError, match=r"^--policy-network: got ") as caught:
            load_policy(saved, network=name)
        assert words in str(caught.value)
    PolicyFile(theta=THETA, spec=MLP, env_id="x", provenance={}).save(tmp_path / "mlp.h5")
    with pytest.raises(UserError, match="expected none: the policy's network is an mlp"):
        load_policy(tmp_path / "mlp.h5", network="support_own:network")


REFUSED = {
    "not_callable": "got an int, which cannot be called",
    "raises": "(RuntimeError: not today)",
    "no_module": "got a function",
    "no_parameters": "it has no parameters",
    "wrong_shape": "returns torch.float64 of (1, 2), got torch.float64 of (1, 3) from observations of (1, 4)",
    "InFloat32": "got torch.float32 of (1, 2)",
    "Room": "support_own:Room', expected a function of the PolicySpec that returns a torch.nn.Module",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_network_is_refused_in_one_line(name):
    with pytest.raises(UserError, match=f"^--policy-network: got 'support_own:{name}', expected") as caught:
        spec_of(name)
    assert REFUSED[name] in str(caught.value)
    assert "\n" not in str(caught.value)
