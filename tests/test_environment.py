"""Real environments, those that are refused, and the keys of the random streams."""

import gymnasium
import numpy as np
import pytest

from qtrl_hpc.config import EnvironmentConfig, PolicyConfig
from qtrl_hpc.environment import Purpose, check_fits, make_environment, policy_spec, reset_seed, seed_sequence
from qtrl_hpc.errors import UserError

MINIGRID = "MiniGrid-Empty-5x5-v0"


class Spaces(gymnasium.Env):
    """Nothing but an action space and an observation space."""

    def __init__(self, actions=None, observations=None):
        self.action_space = actions or gymnasium.spaces.Discrete(2)
        self.observation_space = observations or gymnasium.spaces.Box(0, 1, (2, 3))


def spec_of(env, num_actions=None, **values):
    return policy_spec(env, EnvironmentConfig(env_id="Test-v0", num_actions=num_actions, **values), PolicyConfig())


@pytest.mark.parametrize(
    ("env_id", "num_actions", "obs_shape", "sizes", "key"),
    [
        (MINIGRID, 3, (7, 7, 3), (147, 32, 3), "image"),
        (MINIGRID, None, (7, 7, 3), (147, 32, 7), "image"),
        ("CartPole-v1", 2, (4,), (4, 32, 2), None),
        ("CartPole-v1", None, (4,), (4, 32, 2), None),
        ("Acrobot-v1", 1, (6,), (6, 32, 1), None),
    ],
)
def test_policy_that_fits(env_id, num_actions, obs_shape, sizes, key):
    spec = spec_of(make_environment(env_id), num_actions, observation_scale=0.25)
    assert spec.sizes == sizes
    assert spec.obs_shape == obs_shape
    assert spec.observation_key == key
    assert spec.observation_scale == 0.25


def test_policy_takes_its_hidden_layers_from_the_configuration():
    policy = PolicyConfig(policy_hidden_sizes=(8, 9), policy_activation="tanh")
    spec = policy_spec(Spaces(), EnvironmentConfig(num_actions=None), policy)
    assert spec.sizes == (6, 8, 9, 2)
    assert spec.activation == "tanh"


def test_minigrids_shortest_path_earns_0_955():
    """Facing right in the corner of a 3×3 room: forward twice, turn right, forward twice; 1 − 0.9·5/100."""
    env = make_environment(MINIGRID)
    env.reset(seed=0)
    steps = [env.step(action) for action in (2, 2, 1, 2, 2)]
    assert [step[2] for step in steps] == [False] * 4 + [True]
    assert steps[-1][1] == pytest.approx(0.955)


@pytest.mark.parametrize(
    "env_id",
    [
        "NoSuchThing-v0",
        "MiniGrid-NoSuchThing-v0",
        "CartPole-v99",
        "a b",
        "a\nb",
        "",
        "no_such_module:Env-v0",
        "a:b:c",
        ":Env-v0",
        ".:Env-v0",
    ],
)
def test_unknown_environment_is_refused_in_one_line(env_id):
    with pytest.raises(UserError) as caught:
        make_environment(env_id)
    assert str(caught.value).startswith(f"--env-id: got {env_id!r}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("CartPol-v1", "Gymnasium can make (did you mean CartPole-v1 or "),
        ("MiniGird-Empty-5x5-v0", "MiniGrid-Empty-5x5-v0"),
        ("qqqqqq", "names, which gymnasium.pprint_registry() prints)"),
        ("support_own:Roon", "or an object that the module has (did you mean Room?) (AttributeError"),
        ("nowhere_here:Room", "or a module that can be imported (ModuleNotFoundError: No module named 'nowhere_here')"),
        ("support_own:no_environment", "expected a function that returns a gymnasium.Env, which returned an int"),
        ("support_own:raises", "expected a function that returns a gymnasium.Env (RuntimeError: not today)"),
        ("support_own:not_callable", "expected a function that returns a gymnasium.Env (TypeError: 'int' object"),
    ],
)
def test_what_is_closest_and_what_went_wrong_is_said(env_id, words):
    with pytest.raises(UserError, match=r"^--env-id: got ") as caught:
        make_environment(env_id)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_environment_of_ones_own():
    """A class, a function that wraps it, and Gymnasium's own MODULE:NAME, with a version and without one."""
    for env_id, name in (
        ("support_own:Room", "Room"),
        ("support_own:room", "TimeLimit"),
        ("support_own:OwnHall-v3", "OrderEnforcing"),
        ("support_own:OwnRoom", "OrderEnforcing"),
    ):
        env = make_environment(env_id)
        assert type(env).__name__ == name
        assert spec_of(env).sizes[0] == 2
        first, again = (env.reset(seed=4)[0].tolist() for _ in "ab")
        assert first == again


def test_render_mode_is_handed_on_where_there_is_one():
    for env_id in ("support_own:Room", "CartPole-v1"):
        assert make_environment(env_id).render_mode is None
        assert make_environment(env_id, render_mode="rgb_array").render_mode == "rgb_array"
    with pytest.raises(UserError, match="unexpected keyword argument 'render_mode'"):
        make_environment("support_own:room", render_mode="rgb_array")


@pytest.mark.parametrize(
    ("env_id", "what"),
    [
        ("Pendulum-v1", "actions"),
        ("MountainCarContinuous-v0", "actions"),
        ("FrozenLake-v1", "observes"),
        ("Blackjack-v1", "observes"),
    ],
)
def test_environment_of_the_wrong_kind_is_refused(env_id, what):
    with pytest.raises(UserError, match=rf"^--env-id: Test-v0 .*{what}.*, expected"):
        spec_of(make_environment(env_id))


@pytest.mark.parametrize(
    "env",
    [
        Spaces(actions=gymnasium.spaces.MultiDiscrete([2, 2])),
        Spaces(actions=gymnasium.spaces.Discrete(2, start=1)),
        Spaces(observations=gymnasium.spaces.Dict(image=gymnasium.spaces.Discrete(3))),
        Spaces(observations=gymnasium.spaces.Dict(other=gymnasium.spaces.Box(0, 1, (2,)))),
    ],
    ids=["multi-discrete", "starts at 1", "image is no box", "no image"],
)
def test_spaces_of_the_wrong_kind_are_refused(env):
    with pytest.raises(UserError, match=r"^--env-id: Test-v0 "):
        spec_of(env)


@pytest.mark.parametrize(("env_id", "has"), [("CartPole-v1", 2), (MINIGRID, 7)])
def test_more_actions_than_there_are_is_refused(env_id, has):
    env = make_environment(env_id)
    assert spec_of(env, has).num_actions == has
    with pytest.raises(UserError, match=rf"^--num-actions: got {has + 1}, expected at most {has}, which Test-v0 has"):
        spec_of(env, has + 1)


@pytest.mark.parametrize(
    ("env", "fits"),
    [
        (Spaces(), True),
        (Spaces(actions=gymnasium.spaces.Discrete(3)), True),  # the first two are used
        (Spaces(actions=gymnasium.spaces.Discrete(1)), False),
        (Spaces(actions=gymnasium.spaces.Box(0, 1, (2,))), False),
        (Spaces(observations=gymnasium.spaces.Box(0, 1, (6,))), False),
        (Spaces(observations=gymnasium.spaces.Box(0, 1, (3, 2))), False),
        (Spaces(observations=gymnasium.spaces.Discrete(6)), False),
        (Spaces(observations=gymnasium.spaces.Dict(image=gymnasium.spaces.Box(0, 1, (2, 3)))), False),
    ],
)
def test_a_policy_fits_an_environment_or_is_refused(env, fits):
    spec = spec_of(Spaces())
    if fits:
        check_fits(env, spec, "Test-v0", "policy.h5")
    else:
        with pytest.raises(UserError, match=r"^policy\.h5: .*Test-v0"):
            check_fits(env, spec, "Test-v0", "policy.h5")


def test_streams_are_keyed_by_seed_purpose_agent_and_episode():
    ours = seed_sequence(5, Purpose.ENVIRONMENT, agent=3, episode=8)
    assert ours.generate_state(4).tolist() == np.random.SeedSequence(5, spawn_key=(2, 3, 8)).generate_state(4).tolist()
    assert reset_seed(ours) == ours.generate_state(1)[0]


def test_purposes_have_streams_of_their_own():
    """Their numbers are part of what a seed means, so they do not move."""
    numbers = {purpose.name: int(purpose) for purpose in Purpose}
    assert list(numbers)[:6] == [
        "INITIAL",
        "ACTIONS",
        "ENVIRONMENT",
        "EVALUATION_ACTIONS",
        "EVALUATION_ENVIRONMENT",
        "BOOTSTRAP",
    ]
    assert list(numbers.values()) == list(range(len(numbers)))
