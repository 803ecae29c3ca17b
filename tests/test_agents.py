"""What a rank's agents contribute, by hand and in one pass or several."""

import gymnasium
import numpy as np
import pytest

from qtrl_hpc import agents as module
from qtrl_hpc.agents import STATISTICS, Agents
from qtrl_hpc.config import Config
from qtrl_hpc.environment import make_environment, policy_spec
from qtrl_hpc.policy import policy_layers
from qtrl_hpc.reinforce import Baseline, Batch, advantages, discounted_returns, policy_gradient

MINIGRID = {"env_id": "MiniGrid-Empty-5x5-v0", "num_actions": 3, "policy_hidden_sizes": (8,), "max_episode_steps": 30}
SEEN = Baseline(weight=0.5, mean=4.0, mean_square=40.0)  # μ = 8


class Counter(gymnasium.Env):
    """Episodes of 3 steps: observe 1, 2, 3 and reward 10, 20, 30."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(0, 9, (1,))

    def reset(self, *, seed=None, options=None):
        self.steps = 1
        return np.array([1.0]), {}

    def step(self, action):
        self.steps += 1
        return np.array([self.steps]), 10.0 * (self.steps - 1), self.steps == 4, False, {}


def counters(count=1, **values):
    config = Config(policy_hidden_sizes=(), num_actions=2, gamma=0.5, **values)
    environments = [Counter() for _ in range(count)]
    return Agents(config, policy_spec(environments[0], config, config), environments, first_agent=0)


def sums(row):
    return dict(zip(STATISTICS, row.tolist(), strict=True))


def test_windows_of_five_steps_by_hand():
    """γ = 1/2, μ = 8. Episodes 10 20 30 | 10 20 …: G = 27.5, 35, 30 | 10 + 24/2 = 22, 20 + 8/2 = 24, then | 30 | 27.5 …

    With all weights 0 both actions have probability 1/2: ∂J/∂z_a = (1/5) Σ_t (1[a = a_t] − 1/2)·G_t, times the
    observations 1, 2, 3, 1, 2 for the weights.
    """
    agents = counters(steps_per_update=5, advantage="return")
    expected = [
        ([1, 2, 3, 1, 2], [27.5, 35, 30, 22, 24], (1, 60, 3)),
        ([3, 1, 2, 3, 1], [30, 27.5, 35, 30, 10 + 4], (2, 120, 6)),
        ([2, 3, 1, 2, 3], [35, 30, 27.5, 35, 30], (2, 120, 6)),
    ]
    theta = np.zeros(4)
    for update, (obs, returns, ended) in enumerate(expected):
        [[window]] = trajectories = agents.play(theta, update)
        [gradient], [row] = agents.reinforce(trajectories, theta, SEEN, 0)
        push = (np.eye(2)[window.actions] - 0.5) * np.array(returns)[:, None] / 5
        np.testing.assert_allclose(gradient, [*(push.T @ obs), *push.sum(axis=0)], atol=1e-12)
        found = sums(row)
        assert (found["episodes"], found["reward"], found["length"], found["steps"]) == (*ended, 5)
        assert found["return"] == pytest.approx(sum(returns))
        assert found["squared_return"] == pytest.approx(np.square(returns).sum())
        assert found["entropy"] == pytest.approx(5 * np.log(2))


def test_standardised_is_over_the_window():
    agents = counters(steps_per_update=5, advantage="standardised")
    theta = np.zeros(4)
    [[window]] = trajectories = agents.play(theta, 0)
    returns = np.array([27.5, 35, 30, 22, 24])
    advantage = (returns - returns.mean()) / (returns.std(ddof=1) + 1e-6)
    push = (np.eye(2)[window.actions] - 0.5) * advantage[:, None] / 5
    np.testing.assert_allclose(agents.reinforce(trajectories, theta, SEEN, 0)[0][0][2:], push.sum(axis=0), atol=1e-12)


def test_update_in_which_no_episode_ends():
    agents = counters(2, steps_per_update=2)
    _, rows = agents.reinforce(agents.play(np.zeros(4), 0), np.zeros(4), SEEN, 0)
    found = sums(rows.sum(axis=0))
    assert (found["episodes"], found["reward"], found["length"], found["steps"]) == (0, 0, 0, 4)


def test_update_number_counts_whole_episodes_but_not_windows():
    """Whole episodes: agents that start at update 5 play what others play there. Windows go on where they are."""
    for steps in (None, 6):
        agents, spec = minigrid(2, steps_per_update=steps)
        theta = np.zeros(spec.num_parameters)
        played = [agents.play(theta, update) for update in range(6)]
        again = minigrid(2, steps_per_update=steps)[0].play(theta, 5)
        same = [a[0].actions.tolist() == b[0].actions.tolist() for a, b in zip(again, played[5], strict=True)]
        first = [a[0].actions.tolist() == b[0].actions.tolist() for a, b in zip(again, played[0], strict=True)]
        assert (same, first) == (([True] * 2, [False] * 2) if steps is None else ([False] * 2, [True] * 2))


def minigrid(count, first_agent=0, **values):
    config = Config(**MINIGRID, **values)
    environments = [make_environment(config.env_id) for _ in range(count)]
    spec = policy_spec(environments[0], config, config)
    return Agents(config, spec, environments, first_agent=first_agent), spec


FORMS = [
    {"episodes_per_update": 3},
    {"episodes_per_update": 2, "time_reduction": "sum", "advantage": "standardised"},
    {"steps_per_update": 40, "entropy_coefficient": 0.1, "logit_penalty": 0.01, "logit_penalty_half_life": 3},
    {"steps_per_update": 40, "time_reduction": "sum", "advantage": "standardised"},
]


@pytest.mark.parametrize("values", FORMS, ids=str)
def test_one_pass_for_all_agents_is_the_sum_of_each_trajectorys_own(values):
    """Eq. 2 trajectory by trajectory, averaged over each agent's; with an ordered reduction a row for each agent."""
    done = {}
    for reduction in ("allreduce", "ordered"):
        agents, spec = minigrid(3, reduction=reduction, **values)
        theta = 0.1 * np.random.default_rng(0).normal(size=spec.num_parameters)
        trajectories = agents.play(theta, 0)
        done[reduction] = agents.reinforce(trajectories, theta, SEEN, 6)
    config, layers, expected = Config(**MINIGRID, **values), policy_layers(theta, spec), []
    for own in trajectories:
        gradients = []
        for each in own:
            G, T = discounted_returns(each.rewards, each.over, config.gamma, 8.0), len(each.rewards)
            weight = np.full(T, 1 / T if config.time_reduction == "mean" else 1.0)
            batch = Batch(each.obs, each.actions, advantages(G, config, SEEN), weight)
            gradients.append(policy_gradient(batch, layers, spec, config, 6)[0])
        expected.append(np.mean(gradients, axis=0))
    assert [len(rows) for rows in done["allreduce"] + done["ordered"]] == [1, 1, 3, 3]
    np.testing.assert_allclose(done["ordered"][0], expected, atol=1e-12)
    np.testing.assert_allclose(done["allreduce"][0][0], np.sum(expected, axis=0), atol=1e-12)
    np.testing.assert_allclose(done["allreduce"][1][0], done["ordered"][1].sum(axis=0), rtol=1e-12)
    assert np.abs(expected).max() > 1e-4


@pytest.mark.parametrize(("reduction", "passes"), [("allreduce", 1), ("ordered", 3)])
def test_number_of_passes_through_the_policy(monkeypatch, reduction, passes):
    seen = []
    monkeypatch.setattr(module, "policy_gradient", lambda *args: seen.append(args) or policy_gradient(*args))
    agents, spec = minigrid(3, episodes_per_update=2, reduction=reduction)
    theta = np.zeros(spec.num_parameters)
    agents.reinforce(agents.play(theta, 0), theta, SEEN, 0)
    assert len(seen) == passes


def test_running_episodes_restore_agents_on_other_ranks():
    """Four agents of one rank, cut in the middle of their episodes, go on as two ranks of two."""
    whole, spec = minigrid(4, steps_per_update=7)
    theta = 0.1 * np.random.default_rng(0).normal(size=spec.num_parameters)
    for update in range(9):
        whole.play(theta, update)
    running = whole.running()
    assert (running.length > 0).sum() > 1
    running.check(4, spec)
    halves = [minigrid(2, first_agent, steps_per_update=7)[0] for first_agent in (0, 2)]
    for half in halves:
        half.resume(running.of(half.numbers))
    for update in range(9, 14):
        expected = whole.play(theta, update)
        found = halves[0].play(theta, update) + halves[1].play(theta, update)
        for [one], [other] in zip(expected, found, strict=True):
            assert one.obs.tobytes() == other.obs.tobytes()
            assert one.actions.tolist() == other.actions.tolist()
            assert one.finished == other.finished
    for name in running._fields:
        joined = np.concatenate([getattr(half.running(), name) for half in halves])
        assert joined.tobytes() == getattr(whole.running(), name).tobytes()
