"""One episode: what is recorded, how actions are drawn, and that its key alone determines it."""

import gymnasium
import numpy as np
import pytest

from qtrl_hpc.environment import Purpose, make_environment, reset_seed, seed_sequence
from qtrl_hpc.episode import run_episode, sample_action
from qtrl_hpc.policy import PolicySpec, flatten_observation, log_softmax, policy_layers


class Counter(gymnasium.Env):
    """Observe the number of steps so far; reward 10·steps; end by itself or be cut where told."""

    def __init__(self, terminate=99, truncate=99):
        self.terminate, self.truncate = terminate, truncate

    def reset(self, *, seed=None):
        self.steps, self.seed = 0, seed
        return np.array([0.0]), {}

    def step(self, action):
        self.steps += 1
        return np.array([self.steps]), 10 * self.steps, self.steps == self.terminate, self.steps == self.truncate, {}


def spec_of(obs_shape, num_actions, key=None, scale=1.0, max_steps=50):
    return PolicySpec(
        obs_shape=obs_shape,
        hidden_sizes=(),
        num_actions=num_actions,
        activation="relu",
        observation_key=key,
        observation_scale=scale,
        max_episode_steps=max_steps,
    )


def play_counter(env, max_steps=50):
    spec = spec_of((1,), 2, scale=0.5, max_steps=max_steps)
    layers = policy_layers(np.zeros(4), spec)
    return run_episode(env, layers, spec, seed=7, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("env", "max_steps", "length", "terminated"),
    [(Counter(terminate=3), 50, 3, True), (Counter(truncate=2), 50, 2, False), (Counter(), 4, 4, False)],
    ids=["terminated", "truncated", "cut"],
)
def test_records_what_was_seen_before_and_rewarded_after_each_action(env, max_steps, length, terminated):
    trajectory = play_counter(env, max_steps)
    assert env.seed == 7
    assert trajectory.terminated is terminated
    np.testing.assert_array_equal(trajectory.obs, 0.5 * np.arange(length)[:, None])
    np.testing.assert_array_equal(trajectory.rewards, 10.0 * np.arange(1, length + 1))
    assert trajectory.rewards.dtype == trajectory.obs.dtype == np.float64
    assert trajectory.actions.shape == (length,)
    assert trajectory.actions.dtype == np.int64


def test_actions_follow_the_policy_at_each_observation():
    """Logits (0, 1000·(obs − 1.2)), obs = 0, 1/2, 1, 3/2 …: action 0 three times, then 1."""
    spec = spec_of((1,), 2, scale=0.5)
    layers = policy_layers(np.array([0, 1000.0, 0, -1200.0]), spec)
    trajectory = run_episode(Counter(terminate=6), layers, spec, seed=0, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(trajectory.actions, [0, 0, 0, 1, 1, 1])


def test_sampled_frequencies_are_the_probabilities():
    """Over 10 000 evenly spaced uniforms each action's share is its probability to one part in 10 000."""
    logits = np.log([0.5, 0.2, 0.3]) + 4.0
    actions = [sample_action(logits, (i + 0.5) / 10_000) for i in range(10_000)]
    assert actions == sorted(actions)
    np.testing.assert_allclose(np.bincount(actions) / 10_000, [0.5, 0.2, 0.3], rtol=0, atol=1.001e-4)


@pytest.mark.parametrize(
    ("logits", "uniform", "action"),
    [
        ([0, 0, 0], 0.0, 0),
        ([0, 0, 0], 0.999999999, 2),
        ([-5000, 0], 0.0, 1),  # an action of probability 0 is not taken even where the uniform is 0
        ([0, -5000], 0.999999999, 0),
        ([1e4, 1e4], 0.75, 1),
        ([0, 0], 0.5, 1),  # [0, 1/2) and [1/2, 1)
        ([3], 0.999999999, 0),
    ],
)
def test_edges_of_sampling(logits, uniform, action):
    assert sample_action(np.array(logits, float), uniform) == action


def test_rounding_cannot_give_an_action_that_does_not_exist():
    """Ten times 1/10 adds up to less than 1: a uniform above the sum is still the last action."""
    uniform = np.nextafter(1.0, 0.0)
    assert np.exp(log_softmax(np.zeros(10))).cumsum()[-1] <= uniform
    assert sample_action(np.zeros(10), uniform) == 9


ENVIRONMENTS = {
    "CartPole-v1": spec_of((4,), 2, max_steps=1000),
    "MiniGrid-Empty-5x5-v0": spec_of((7, 7, 3), 3, "image", max_steps=1000),
}


def play(env_id, env, agent, episode, seed=0, scale=0.1):
    spec = ENVIRONMENTS[env_id]
    theta = scale * np.random.default_rng(0).normal(size=spec.num_parameters)
    key = (agent, episode)
    return run_episode(
        env,
        policy_layers(theta, spec),
        spec,
        seed=reset_seed(seed_sequence(seed, Purpose.ENVIRONMENT, *key)),
        rng=np.random.default_rng(seed_sequence(seed, Purpose.ACTIONS, *key)),
    )


@pytest.fixture(params=ENVIRONMENTS)
def env_id(request):
    return request.param


def test_real_episode_replays_step_by_step(env_id):
    """A fresh environment, given the recorded actions, shows the recorded observations and rewards."""
    played = play(env_id, make_environment(env_id), 0, 0)
    env = make_environment(env_id)
    observation, _ = env.reset(seed=reset_seed(seed_sequence(0, Purpose.ENVIRONMENT)))
    uniforms = np.random.default_rng(seed_sequence(0, Purpose.ACTIONS)).random(len(played.actions))
    spec = ENVIRONMENTS[env_id]
    weight, bias = policy_layers(0.1 * np.random.default_rng(0).normal(size=spec.num_parameters), spec)[0]
    for t, action in enumerate(played.actions):
        obs = flatten_observation(observation, spec)
        np.testing.assert_array_equal(played.obs[t], obs)
        probabilities = np.exp(weight @ obs + bias)
        below = probabilities[:action].sum() / probabilities.sum()
        assert below <= uniforms[t] < below + probabilities[action] / probabilities.sum()
        observation, reward, terminated, truncated, _ = env.step(action)
        assert played.rewards[t] == reward
        assert (terminated or truncated) == (t == len(played.actions) - 1)
    assert played.terminated == terminated


def test_same_key_same_trajectory_whatever_was_played_before(env_id):
    env = make_environment(env_id)
    first = play(env_id, env, 2, 5)
    others = [
        play(env_id, env, 5, 2),
        play(env_id, env, 2, 6),
        play(env_id, env, 3, 5),
        play(env_id, env, 2, 5, seed=1),
    ]
    again = play(env_id, env, 2, 5)
    for field in ("obs", "actions", "rewards"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
    for other in others:
        assert first.actions.tolist() != other.actions.tolist()


def test_minigrid_reward_is_one_minus_nine_tenths_of_the_time_used():
    """On the goal after T steps 1 − 0.9·T/100, else nothing after 100 steps."""
    env = make_environment("MiniGrid-Empty-5x5-v0")
    played = [play("MiniGrid-Empty-5x5-v0", env, agent, 0, scale=0.0) for agent in range(20)]
    assert {trajectory.terminated for trajectory in played} == {True, False}
    for trajectory in played:
        steps = len(trajectory.actions)
        assert trajectory.terminated or steps == 100
        expected = 1 - 0.9 * steps / 100 if trajectory.terminated else 0.0
        assert trajectory.rewards.sum() == trajectory.rewards[-1] == pytest.approx(expected)
