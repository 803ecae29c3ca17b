"""Every value that can be set: what is refused, what is kept, what may change at a resume."""

import dataclasses
import json

import pytest
import yaml

from qtrl_hpc.config import RESUMABLE_FIELDS, TOPICS, Config
from qtrl_hpc.errors import UserError

NAN, INF = float("nan"), float("inf")
NOT_INT = [1.5, 1.0, "1", True, NAN, INF, [1]]
COUNT = [*NOT_INT, None, 0, -1]
NOT_NUMBER = ["0.5", True, NAN, INF, -INF, [0.5]]
NUMBER = [*NOT_NUMBER, None]
NAME = ["", "nonsense", None, 1, True, ["adam"]]
OWN = [*NAME, "mine:", ":mine", "mine:a:b", "mine :a", "a/b:c", "mine:3"]
SIZES = [10, "10", None, [0], [-1], [1.5], ["8"], [True], [4, NAN], {"a": 1}]

# field: (a good value other than the default, bad values)
FIELDS = {
    "env_id": ("CartPole-v1", ["", None, 3, True, ["x"]]),
    "num_actions": (None, [*NOT_INT, 0, -1]),
    "observation_scale": (-0.5, [*NUMBER, 0, 0.0]),
    "max_episode_steps": (1, COUNT),
    "policy": ("classical", NAME),
    "policy_network": ("mine:network", OWN),
    "policy_hidden_sizes": ((8, 4), SIZES),
    "policy_activation": ("tanh", [*NAME, "none"]),
    "ansatz": ("linear", [*OWN, "mlp"]),
    "layers": (1, COUNT),
    "mapping": ("mine:mapping", [*OWN, "ring"]),
    "mapping_hidden_sizes": ((), SIZES),
    "circuit": ("frozen", NAME),
    "mapping_activation": ("relu", NAME),
    "feature_a": (2, [*NUMBER, 0, -0.1]),
    "feature_b": (0.5, [*NUMBER, 0, -0.1]),
    "feature_c": (2.5, [*NUMBER, 0, 0.99]),
    "qpu": ("statevector", OWN),
    "device": ("cuda", [*NAME, "cuda:0"]),
    "precision": ("single", NAME),
    "gradient": ("parameter-shift", NAME),
    "shots": (8192, [*NOT_INT, 0, -1]),
    "noise": (
        '{"two_qubit_rate": 0.003}',
        ["", "noise.yaml", 3, True, '{"rate": 0.1}', '{"one_qubit_rate": 1.5}', "[1]"],
    ),
    "spsa_c": (0.2, [*NUMBER, 0, -0.1]),
    "spsa_gamma": (0.0, [*NUMBER, -0.1]),
    "spsa_alpha": (0.602, [*NUMBER, -0.1]),
    "spsa_stability": (10, [*NUMBER, -1]),
    "spsa_directions": (4, COUNT),
    "share_circuits": (True, [None, 1, 0, "yes", "true", [True]]),
    "qpu_retries": (0, [*NOT_INT, None, -1]),
    "qpu_pause": (0, [*NUMBER, -1.0]),
    "qpu_timeout": (None, [*NOT_NUMBER, 0, -1.0]),
    "quorum": (1, [*NUMBER, 0, -0.5, 1.01]),
    "threads": (2, COUNT),
    "gamma": (0, [*NUMBER, -0.01, 1.01]),
    "advantage": ("return", NAME),
    "baseline_decay": (0.0, [*NUMBER, -0.01, 1, 1.0, 1.01]),
    "baseline_floor": (1e-9, [*NUMBER, 0, -1.0]),
    "time_reduction": ("sum", NAME),
    "entropy_coefficient": (0.05, [*NUMBER, -0.01]),
    "logit_penalty": (0.02, [*NUMBER, -0.01]),
    "logit_penalty_half_life": (200, [*NOT_NUMBER, 0, -1.0]),
    "optimizer": ("sgd", NAME),
    "learning_rate": (1e-4, [*NUMBER, 0, -1e-3]),
    "learning_rate_half_life": (0.5, [*NOT_NUMBER, 0, -1.0]),
    "max_grad_norm": (10, [*NOT_NUMBER, 0, -1.0]),
    "seed": (7, [*NOT_INT, None, -1]),
    "updates": (1, COUNT),
    "episodes_per_update": (4, COUNT),
    "steps_per_update": (64, [*NOT_INT, 0, -1]),
    "agents_per_rank": (8, COUNT),
    "reduction": ("ordered", NAME),
    "checkpoint_every": (10, COUNT),
    "progress_timeout": (None, [*NOT_NUMBER, 0, -1.0]),
    "on_agent_failure": ("continue", NAME),
    "adopt": (True, [None, 1, 0, "yes", "true", [True]]),
    "trackers": ((), [None, 5, "tensorboard", ["tensorboad"], ["wandb", "wandb"], [1], [["wandb"]]]),
    "evaluate_every": (100, [*NOT_INT, 0, -1]),
    "evaluate_episodes": (5, COUNT),
    "video_every": (100, [*NOT_INT, 0, -1]),
}
GOOD = {name: good for name, (good, _) in FIELDS.items()}
# All of them but for one of the two that exclude each other.
EPISODES, STEPS = {**GOOD, "steps_per_update": None}, {**GOOD, "episodes_per_update": 1}


def test_every_field_is_tested_here():
    names = [field.name for field in dataclasses.fields(Config)]
    assert sorted(names) == sorted(FIELDS)
    for name in names:
        assert getattr(Config(), name) != GOOD[name], f"{name} needs a value other than its default"


@pytest.mark.parametrize(("name", "bad"), [(name, bad) for name, (_, values) in FIELDS.items() for bad in values])
def test_bad_value_is_refused_by_its_flag(name, bad):
    topic = next(topic for topic in TOPICS if name in {field.name for field in dataclasses.fields(topic)})
    flag = f"--{name.replace('_', '-')}: got "
    for build in (lambda: Config.from_dict({name: bad}), lambda: topic(**{name: bad})):
        with pytest.raises(ValueError, match=f"^{flag}.*, expected ") as caught:
            build()
        assert "\n" not in str(caught.value)


def test_whole_number_too_large_for_a_float_is_refused():
    with pytest.raises(ValueError, match=r"^--learning-rate: got 10000"):
        Config(learning_rate=10**400)


@pytest.mark.parametrize(
    "values",
    [{"gamma": 1}, {"gamma": 1.0}, {"seed": 0}, {"feature_c": 1}, {"max_grad_norm": None}, {"policy_hidden_sizes": []}],
    ids=str,
)
def test_value_at_its_bound_is_taken(values):
    [(name, value)] = values.items()
    taken = getattr(Config.from_dict(values), name)
    assert taken == (tuple(value) if isinstance(value, list) else value)


def test_steps_and_several_episodes_per_update_exclude_each_other():
    with pytest.raises(
        ValueError, match=r"^--episodes-per-update: got 2, expected 1 together with --steps-per-update$"
    ):
        Config(episodes_per_update=2, steps_per_update=8)


@pytest.mark.parametrize("values", [{}, EPISODES, STEPS], ids=["defaults", "all others", "all others, with steps"])
def test_round_trip_as_yaml_and_json(values):
    config = Config(**values)
    values = config.to_dict()
    assert set(values) == set(FIELDS)
    assert values == json.loads(json.dumps(values))  # plain: lists, no tuples
    assert Config.from_dict(values) == config
    assert Config.from_dict(json.loads(json.dumps(values))) == config
    assert Config.from_dict(yaml.safe_load(yaml.safe_dump(values))) == config


@pytest.mark.parametrize("unknown", [{"learning_rat": 1}, {"learning-rate": 1e-3}, {1: 2, "bogus": 3}, {None: 1}])
def test_unknown_key_is_refused_by_name(unknown):
    with pytest.raises(ValueError, match="unknown configuration key") as caught:
        Config.from_dict({"layers": 3, **unknown})
    assert any(repr(key) in str(caught.value) for key in unknown)


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().layers = 4


@pytest.mark.parametrize("name", FIELDS)
def test_resume_with_another_value(name):
    """Only what changes none of the bits may differ; anything else is refused by its flag and both values."""
    ours, saved = Config(**{name: GOOD[name]}), Config()
    where_and_how_long = ("updates", "agents_per_rank", "checkpoint_every", "threads", "device")
    patience = ("qpu_retries", "qpu_pause", "qpu_timeout", "quorum", "progress_timeout", "on_agent_failure", "adopt")
    watched = ("trackers", "evaluate_every", "evaluate_episodes", "video_every")
    if name in (*where_and_how_long, *patience, *watched):
        assert name in RESUMABLE_FIELDS
        ours.check_resumes(saved, "run/checkpoint.h5")
    else:
        with pytest.raises(UserError) as caught:
            ours.check_resumes(saved, "run/checkpoint.h5")
        text = str(caught.value)
        assert text.startswith(f"--{name.replace('_', '-')}: got {GOOD[name]!r}, expected {getattr(saved, name)!r}")
        assert "run/checkpoint.h5" in text


def test_resume_with_the_same_configuration():
    Config(**STEPS).check_resumes(Config(**STEPS), "run/checkpoint.h5")


def test_one_step_cannot_be_standardised():
    with pytest.raises(ValueError, match=r"^--steps-per-update: got 1, expected at least 2 with --advantage"):
        Config(steps_per_update=1, advantage="standardised")
    Config(steps_per_update=1, advantage="baseline")


@pytest.mark.parametrize(("name", "value"), [("learning_rate", 0.8), ("logit_penalty", 0.8)])
def test_what_halves_by_hand(name, value):
    """Half-life 4 updates: 0.8, after 4 updates 0.4, after 12 0.1, after 2 0.8/√2; however long the run is to be."""
    for updates in (1, 1000):
        config = Config(**{name: value, f"{name}_half_life": 4, "updates": updates})
        at = getattr(config, f"{name}_at")
        assert (at(0), at(4), at(12)) == (0.8, 0.4, 0.1)
        assert at(2) == pytest.approx(0.8 / 2**0.5)
    assert getattr(Config(**{name: value}), f"{name}_at")(10**9) == value
    assert at(10**9) == 0.0


def test_patience_with_a_back_end_is_longer_than_with_one_job():
    with pytest.raises(ValueError, match=r"^--progress-timeout: got 600.0, expected more than --qpu-timeout, 900.0"):
        Config(qpu="backend:aer", qpu_timeout=900.0, progress_timeout=600.0)
    with pytest.raises(ValueError, match=r"--qpu-timeout, None, or null$"):
        Config(qpu="backend:aer", qpu_timeout=None)
    assert Config(qpu="backend:aer", qpu_timeout=None, progress_timeout=None).progress_timeout is None
    assert Config(qpu_timeout=None).progress_timeout == 3600.0
