"""The exact expectations and the statistics behind docs/convergence.py, on an environment of three rooms in a row."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from support import docs_script

from qtrl_hpc.config import Config
from qtrl_hpc.policy import PolicySpec, policy_layers
from qtrl_hpc.reinforce import Baseline, Batch, advantages, discounted_returns, policy_gradient

SPEC = PolicySpec(
    obs_shape=(3,),
    hidden_sizes=(4,),
    num_actions=2,
    activation="tanh",
    observation_key=None,
    observation_scale=1.0,
)
BASELINE = Baseline(weight=1.0, mean=0.4, mean_square=0.2)
HORIZON = 5


@pytest.fixture(scope="module")
def convergence():
    with docs_script("convergence_maths") as module:
        yield module


@pytest.fixture(scope="module")
def room(convergence):
    """Action 0 goes left, or stays at the left end; action 1 goes right, and from the right end out."""
    return convergence.Room(
        obs=np.array([[1.0, 0.0, 0.5], [0.0, 1.0, -0.5], [1.0, 1.0, 0.2]]),
        following=np.array([[0, 1], [0, 2], [1, 0]]),
        over=np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]]),
        rewards=1.0 - 0.1 * np.arange(1.0, HORIZON + 1.0),
    )


@pytest.fixture(scope="module")
def theta():
    return np.random.default_rng(5).normal(size=SPEC.num_parameters)


def all_episodes(room, pi):
    """Yield the probability, states, actions and last reward of each episode, from all sequences of actions."""
    seen = set()
    for sequence in itertools.product(range(2), repeat=HORIZON):
        state, states, probability, over = 0, [], 1.0, False
        for action in sequence:
            states.append(state)
            probability *= pi[state, action]
            over = bool(room.over[state, action])
            state = room.following[state, action]
            if over:
                break
        actions = sequence[: len(states)]
        if actions not in seen:
            seen.add(actions)
            yield probability, states, list(actions), room.rewards[len(actions) - 1] if over else 0.0


CONFIGS = [
    {"advantage": "return", "time_reduction": "sum", "gamma": 1.0},
    {"advantage": "return", "time_reduction": "mean", "gamma": 0.9},
    {"advantage": "standardised", "time_reduction": "sum", "gamma": 0.9, "entropy_coefficient": 0.05},
    {"advantage": "baseline", "time_reduction": "mean", "gamma": 0.95, "logit_penalty": 0.005},
]


@pytest.mark.parametrize("choices", CONFIGS)
def test_expected_gradient_is_the_sum_over_all_episodes(convergence, room, theta, choices):
    config = replace(Config(), **choices)
    total = np.zeros(SPEC.num_parameters)
    for probability, states, actions, reward in all_episodes(room, convergence.action_probabilities(room, theta, SPEC)):
        rewards, over = np.zeros(len(actions)), np.zeros(len(actions), bool)
        rewards[-1], over[-1] = reward, True
        returns = discounted_returns(rewards, over, config.gamma, BASELINE.expected)
        weight = np.full(len(actions), 1.0 / len(actions) if config.time_reduction == "mean" else 1.0)
        batch = Batch(room.obs[states], np.array(actions), advantages(returns, config, BASELINE), weight)
        total += probability * policy_gradient(batch, policy_layers(theta, SPEC), SPEC, config, 0)[0]
    found = convergence.ExpectedGradient(room, SPEC, config, BASELINE)(theta)
    np.testing.assert_allclose(found, total, rtol=1e-10, atol=1e-14)


def test_mean_reward_is_the_sum_over_all_episodes(convergence, room, theta):
    episodes = list(all_episodes(room, convergence.action_probabilities(room, theta, SPEC)))
    assert sum(probability for probability, *_ in episodes) == pytest.approx(1.0)
    mean = sum(probability * reward for probability, _, _, reward in episodes)
    assert convergence.mean_reward(room, theta, SPEC) == pytest.approx(mean)


@pytest.mark.parametrize(("per_step", "mu"), [(False, 0.0), (True, 0.0), (True, 0.3)])
def test_objective_gradient_is_its_derivative(convergence, room, theta, per_step, mu):
    lengths = np.arange(1.0, HORIZON + 1.0)
    ending, cut = room.rewards - mu, -mu
    if per_step:
        ending, cut = ending / lengths, cut / HORIZON

    def value(at):
        return convergence.Episodes(room, convergence.action_probabilities(room, at, SPEC)).expected(ending, cut)

    found = convergence.objective_gradient(room, theta, SPEC, Config(), ending, cut)
    np.testing.assert_allclose(found, convergence.differences(value, theta), rtol=1e-6, atol=1e-9)


def test_which_estimates_are_unbiased(convergence, room, theta):
    """docs/theory.md: a baseline leaves a sum over steps unbiased; with 1/|τ| it does not, nor does standardising."""
    lengths = np.arange(1.0, HORIZON + 1.0)
    of_reward = convergence.objective_gradient(room, theta, SPEC, Config(), room.rewards, 0.0)
    of_rate = convergence.objective_gradient(room, theta, SPEC, Config(), room.rewards / lengths, 0.0)
    mu = BASELINE.expected
    of_rate_less_mu = convergence.objective_gradient(
        room, theta, SPEC, Config(), (room.rewards - mu) / lengths, -mu / HORIZON
    )
    zero, one = BASELINE.normalise(np.array([0.0, 1.0]), 0.1)

    def expected(**choices):
        config = replace(Config(), gamma=1.0, **choices)
        return convergence.ExpectedGradient(room, SPEC, config, BASELINE)(theta)

    def off(found, exact):
        return np.linalg.norm(found - exact) / np.linalg.norm(exact)

    assert off(expected(advantage="return", time_reduction="sum"), of_reward) < 1e-12
    assert off(expected(advantage="baseline", time_reduction="sum"), of_reward * (one - zero)) < 1e-12
    assert off(expected(advantage="return", time_reduction="mean"), of_rate) < 1e-12
    with_baseline = expected(advantage="baseline", time_reduction="mean")
    assert off(with_baseline, of_rate_less_mu * (one - zero)) < 1e-12
    assert off(with_baseline, of_rate * (one - zero)) > 0.1
    standardised = expected(advantage="standardised", time_reduction="sum")
    assert convergence.cosine(standardised, of_reward) < 0.999


def test_moments_are_unbiased(convergence):
    rng = np.random.default_rng(1)
    mean, spread = np.array([1.0, -2.0, 0.5]), np.array([1.0, 3.0, 0.2])
    estimates = []
    for _ in range(4000):
        samples = mean + spread * rng.normal(size=(5, 3))
        gram = samples @ samples.T
        estimates.append(convergence.moments(5, gram.sum(), np.trace(gram)))
    for found, exact in zip(np.transpose(estimates), (mean @ mean, spread @ spread), strict=True):
        assert abs(found.mean() - exact) < 4 * found.std() / np.sqrt(len(found))
        assert found.std() / np.sqrt(len(found)) < 0.05 * exact  # or the line above says nothing


def test_jackknife_by_hand(convergence):
    samples = np.random.default_rng(2).normal(size=(7, 4))
    found = convergence.jackknife(samples, convergence.total_variance)
    assert found.value == pytest.approx(np.trace(np.cov(samples.T)))
    left_out = np.array([np.trace(np.cov(np.delete(samples, index, axis=0).T)) for index in range(7)])
    assert found.error == pytest.approx(np.sqrt(6 / 7 * np.sum((left_out - left_out.mean()) ** 2)))


def test_slope_of_a_power_law(convergence):
    x = np.array([1.0, 2.0, 4.0, 8.0])
    found = convergence.slope(x, [convergence.Estimate(3.0 / value, 0.3 / value) for value in x])
    assert found.value == pytest.approx(-1.0)
    assert found.error == pytest.approx(0.1 / (np.log(2) * np.sqrt(5)))  # 10 % a point, Σ(x − mean)² = 5


def test_curvature_of_a_quadratic(convergence):
    matrix = np.diag([1.0, -5.0, 2.0])
    assert convergence.curvature(lambda at: matrix @ at, np.ones(3), turns=40) == pytest.approx(5.0)
