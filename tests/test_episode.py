"""An agent at play: what is recorded, how actions are drawn, and that an episode can be cut and taken up again."""

import gymnasium
import numpy as np
import pytest
import torch

from qtrl_hpc.environment import Purpose, make_environment, reset_seed, seed_sequence
from qtrl_hpc.episode import Actor, Player, sample_action
from qtrl_hpc.errors import UserError
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


def counter_player(env, max_steps=50):
    """Return a player and an actor that takes both actions alike."""
    spec = spec_of((1,), 2, scale=0.5, max_steps=max_steps)
    return Player(env, spec, seed=7, agent=3), Actor(np.zeros(4), spec)


@pytest.mark.parametrize(
    ("env", "max_steps", "length"),
    [(Counter(terminate=3), 50, 3), (Counter(truncate=2), 50, 2), (Counter(), 4, 4), (Counter(terminate=4), 4, 4)],
    ids=["terminated", "truncated", "cut", "cut and terminated"],
)
def test_records_what_was_seen_before_and_rewarded_after_each_action(env, max_steps, length):
    player, actor = counter_player(env, max_steps)
    for episode in range(2):
        trajectory = player.play(actor)
        assert env.seed == reset_seed(seed_sequence(7, Purpose.ENVIRONMENT, 3, episode))
        np.testing.assert_array_equal(trajectory.obs, 0.5 * np.arange(length)[:, None])
        np.testing.assert_array_equal(trajectory.rewards, 10.0 * np.arange(1, length + 1))
        assert trajectory.over.tolist() == [False] * (length - 1) + [True]
        assert trajectory.finished == [(5.0 * length * (length + 1), length)]
        assert trajectory.rewards.dtype == trajectory.obs.dtype == np.float64
        assert trajectory.actions.shape == (length,)
        assert trajectory.actions.dtype == np.int64


def test_long_episode_is_recorded_whole():
    player, actor = counter_player(Counter(terminate=700, truncate=None), max_steps=1000)
    for steps in (None, 700):
        trajectory = player.play(actor, steps)
        np.testing.assert_array_equal(trajectory.obs, 0.5 * np.arange(700)[:, None])
        assert trajectory.finished == [(5.0 * 700 * 701, 700)]


def test_actions_follow_the_policy_at_each_observation():
    """Logits (0, 1000·(obs − 1.2)), obs = 0, 1/2, 1, 3/2 …: action 0 three times, then 1."""
    spec = spec_of((1,), 2, scale=0.5)
    player = Player(Counter(terminate=6), spec, seed=0, agent=0)
    trajectory = player.play(Actor(np.array([0, 1000.0, 0, -1200.0]), spec))
    np.testing.assert_array_equal(trajectory.actions, [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("hidden", [(), (5,), (6, 4)])
def test_actor_draws_from_the_policy_as_written_out(activation, hidden, torch_mlp):
    """The first action whose cumulative probability, by torch, exceeds the uniform; one actor for all observations."""
    spec = PolicySpec(
        obs_shape=(7,),
        hidden_sizes=hidden,
        num_actions=4,
        activation=activation,
        observation_key=None,
        observation_scale=1.0,
    )
    rng = np.random.default_rng(0)
    theta, obs, uniforms = rng.normal(size=spec.num_parameters), rng.normal(size=(200, 7)), rng.random(200)
    pi = torch_mlp(theta, spec.sizes, activation)(torch.tensor(obs)).softmax(1).detach().numpy()
    actor = Actor(theta, spec)
    actions = [actor(row, uniform) for row, uniform in zip(obs, uniforms, strict=True)]
    assert actions == (pi.cumsum(axis=1) > uniforms[:, None]).argmax(axis=1).tolist()
    assert set(actions) == {0, 1, 2, 3}


# --- windows of so many steps ---


def test_window_has_exactly_its_steps_and_the_episode_goes_on_in_the_next():
    """Episodes of 3 steps, each worth 10 + 20 + 30, in windows of 5, 2 and 2."""
    player, actor = counter_player(Counter(terminate=3))
    seen = []
    for steps in (5, 2, 2):
        window = player.play(actor, steps)
        assert len(window.obs) == len(window.actions) == steps
        seen.append((window.rewards.tolist(), window.over.tolist(), window.finished))
        np.testing.assert_array_equal(window.obs[:, 0] * 20 + 10, window.rewards)
    assert seen == [
        ([10, 20, 30, 10, 20], [False, False, True, False, False], [(60.0, 3)]),
        ([30, 10], [True, False], [(60.0, 3)]),
        ([20, 30], [False, True], [(60.0, 3)]),
    ]
    assert (player.episode, player.actions) == (3, [])


def test_window_cuts_an_episode_at_its_most_steps():
    player, actor = counter_player(Counter(), max_steps=2)
    window = player.play(actor, 5)
    assert window.over.tolist() == [False, True, False, True, False]
    assert window.finished == [(30.0, 2), (30.0, 2)]


def test_sampled_frequencies_are_the_probabilities():
    """Over 10 000 evenly spaced uniforms each action's share is its probability to one part in 10 000."""
    logits = np.log([0.5, 0.2, 0.3]) + 4.0
    actions = [sample_action(logits.tolist(), (i + 0.5) / 10_000) for i in range(10_000)]
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
    assert sample_action(logits, uniform) == action


@pytest.mark.parametrize("num_actions", [3, 7, 10, 18])
def test_rounding_cannot_give_an_action_that_does_not_exist(num_actions):
    """Ten times 1/10 adds up to less than 1: a uniform above the sum is still the last action that is possible."""
    uniform = float(np.nextafter(1.0, 0.0))
    assert sample_action([0.1] * num_actions, uniform) == num_actions - 1
    assert sample_action([0.1] * num_actions + [-5000.0], uniform) == num_actions - 1
    if num_actions == 10:
        assert np.exp(log_softmax(np.zeros(10))).cumsum()[-1] <= uniform


def test_logits_that_are_not_numbers_give_some_action():
    """What they make of the gradient is looked for, and named, after the episode."""
    for bad in (np.nan, np.inf):
        for logits in ([0.0, bad], [bad, 0.0], [bad, bad]):
            assert sample_action(logits, 0.5) in (0, 1)


ENVIRONMENTS = {
    "CartPole-v1": spec_of((4,), 2, max_steps=1000),
    "MiniGrid-Empty-5x5-v0": spec_of((7, 7, 3), 3, "image", max_steps=1000),
}


def player_of(env_id, agent=0, seed=0, scale=0.1, env=None):
    """Return a player in a real environment and an actor with random weights."""
    spec = ENVIRONMENTS[env_id]
    theta = scale * np.random.default_rng(0).normal(size=spec.num_parameters)
    return Player(env or make_environment(env_id), spec, seed=seed, agent=agent), Actor(theta, spec)


def play(env_id, env, agent, episode, seed=0, scale=0.1):
    player, actor = player_of(env_id, agent, seed, scale, env)
    player.episode = episode
    return player.play(actor)


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
        assert played.over[t] == (terminated or truncated)


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


def test_windows_are_the_whole_episodes_cut_elsewhere(env_id):
    """Bit for bit the same steps, whether played episode by episode or 7 at a time."""
    whole, actor = player_of(env_id)
    episodes = [whole.play(actor) for _ in range(6)]
    total = sum(len(episode.actions) for episode in episodes)
    cut, actor = player_of(env_id)
    windows = [cut.play(actor, 7) for _ in range(total // 7)] + [cut.play(actor, total % 7)]
    for field in ("obs", "actions", "rewards", "over"):
        one, other = (np.concatenate([getattr(each, field) for each in played]) for played in (episodes, windows))
        assert one.tobytes() == other.tobytes()
    finished = [[end for each in played for end in each.finished] for played in (episodes, windows)]
    assert finished[0] == finished[1]


# --- taking a running episode up again ---


@pytest.mark.parametrize("windows", [1, 2, 10, 25])
def test_episode_taken_up_again_goes_on_as_it_would_have(env_id, windows):
    """By a player that knows the episode's number, its actions and the checksum alone."""
    kept, actor = player_of(env_id, agent=4, seed=9)
    for _ in range(windows):
        kept.play(actor, 3)
    assert kept.actions, "in the middle of an episode"
    other, _ = player_of(env_id, agent=4, seed=9)
    other.resume(kept.episode, list(kept.actions), kept.checksum())
    assert (other.episode, other.actions, other.checksum()) == (kept.episode, kept.actions, kept.checksum())
    expected, found = kept.play(actor, 200), other.play(actor, 200)
    for field in ("obs", "actions", "rewards", "over"):
        assert getattr(found, field).tobytes() == getattr(expected, field).tobytes()
    assert found.finished == expected.finished
    assert len(found.finished) > 1


def test_between_episodes_the_next_one_begins(env_id):
    kept, actor = player_of(env_id)
    kept.play(actor)
    assert (kept.episode, kept.actions, kept.checksum()) == (1, [], 0)
    other, _ = player_of(env_id)
    other.resume(1, [], 0)
    assert other.play(actor, 50).obs.tobytes() == kept.play(actor, 50).obs.tobytes()


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"agent": 2}, {"checksum": 1}, {"episode": 1}, {"flip": True}],
    ids=lambda change: next(iter(change)),
)
def test_episode_that_does_not_come_out_the_same_is_refused(change):
    kept, actor = player_of("CartPole-v1", agent=1)
    kept.play(actor, 5)
    other, _ = player_of("CartPole-v1", agent=change.get("agent", 1), seed=change.get("seed", 0))
    actions = [1 - action if "flip" in change else action for action in kept.actions]
    with pytest.raises(
        UserError, match=r"^--resume: got another observation .* agent \d after the 5 steps of episode \d"
    ):
        other.resume(change.get("episode", 0), actions, kept.checksum() ^ change.get("checksum", 0))


def test_episode_that_ends_too_soon_when_taken_up_again_is_refused():
    """The counter shows the same after 3 steps, but its episode is over."""
    kept, actor = counter_player(Counter(terminate=9))
    kept.play(actor, 3)
    counter_player(Counter(terminate=4))[0].resume(0, kept.actions, kept.checksum())
    other, _ = counter_player(Counter(terminate=3))
    with pytest.raises(UserError, match=r"agent 3 after the 3 steps of episode 0"):
        other.resume(0, kept.actions, kept.checksum())


def test_minigrid_reward_is_one_minus_nine_tenths_of_the_time_used():
    """On the goal after T steps 1 − 0.9·T/100, else nothing after 100 steps."""
    env = make_environment("MiniGrid-Empty-5x5-v0")
    played = [play("MiniGrid-Empty-5x5-v0", env, agent, 0, scale=0.0) for agent in range(20)]
    assert {len(trajectory.actions) == 100 for trajectory in played} == {True, False}
    for trajectory in played:
        steps = len(trajectory.actions)
        expected = 1 - 0.9 * steps / 100 if steps < 100 else 0.0
        assert trajectory.rewards.sum() == trajectory.rewards[-1] == pytest.approx(expected)
