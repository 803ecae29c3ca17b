"""Returns, advantages, and the policy gradient as the gradient of an objective written out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qtrl_hpc.config import ReinforceConfig
from qtrl_hpc.policy import PolicySpec, policy_layers
from qtrl_hpc.reinforce import Baseline, Batch, advantages, discounted_returns, policy_gradient


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [(0.5, [2.75, 3.5, 3]), (0, [1, 2, 3]), (1.0, [6, 5, 3])],  # 3; 2 + 3/2; 1 + 3.5/2
)
def test_returns_of_1_2_3_by_hand(gamma, expected):
    rewards = np.array([1.0, 2.0, 3.0])
    over = np.array([False, False, True])
    for following in (0.0, 100.0):  # of an episode that is over nothing follows
        found = discounted_returns(rewards, over, gamma, following)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected)
    np.testing.assert_array_equal(rewards, [1, 2, 3])


def test_returns_of_a_window_by_hand():
    """γ = 1/2, 16 is expected after the window: 4 + 8; 2 + 12/2 | 3 | 0; 1 + 0; each episode by itself."""
    rewards = np.array([1.0, 0.0, 3.0, 2.0, 4.0])
    over = np.array([False, True, True, False, False])
    np.testing.assert_array_equal(discounted_returns(rewards, over, 0.5, 16.0), [1, 0, 3, 8, 12])
    np.testing.assert_array_equal(discounted_returns(rewards, over, 0.5), [1, 0, 3, 4, 4])
    np.testing.assert_array_equal(discounted_returns(rewards[:1], over[:1], 1.0, 16.0), [17])


def test_what_is_expected_is_the_running_mean():
    """Decay 1/2: first mean 2, then (1/4·2 + 1/2·5)/(3/4) = 4; before anything was seen, 0."""
    once = Baseline().updated(count=2, total=4, total_square=10, decay=0.5)
    twice = once.updated(count=1, total=5, total_square=25, decay=0.5)
    assert (Baseline().expected, once.expected, twice.expected) == (0, 2, pytest.approx(4))


def test_plain_advantage_is_the_return():
    returns, seen = np.array([1.0, 5.0]), Baseline(weight=1.0, mean=9.0, mean_square=90.0)
    np.testing.assert_array_equal(advantages(returns, ReinforceConfig(advantage="return"), seen), [1, 5])


def test_standardised_advantage_by_hand():
    """Mean 2, spread (with T − 1, as torch's std) 1, plus 1e-6; one step alone, or equal ones, give 0."""
    config = ReinforceConfig(advantage="standardised")
    actual = advantages(np.array([1.0, 2.0, 3.0]), config, Baseline())
    np.testing.assert_allclose(actual, np.array([-1, 0, 1]) / (1 + 1e-6), rtol=1e-12)
    for constant in ([4.0], [4.0, 4.0]):
        np.testing.assert_array_equal(advantages(np.array(constant), config, Baseline()), np.zeros(len(constant)))


def test_baseline_by_hand():
    """Decay 1/2. Returns 1 and 3: weight 1/2, mean 1, mean square 5/2; over the weight 2 and 5, so spread √(5 − 4) = 1.

    Then the return 4: weight 3/4, mean 1/2 + 2 = 5/2, mean square 5/4 + 8 = 37/4;
    over the weight 10/3 and 37/3, variance 37/3 − 100/9 = 11/9.
    """
    once = Baseline().updated(count=2, total=4, total_square=10, decay=0.5)
    assert (once.weight, once.mean, once.mean_square) == (0.5, 1, 2.5)
    np.testing.assert_allclose(once.normalise(np.array([1.0, 3.0]), floor=0.1), [-1, 1])
    twice = once.updated(count=1, total=4, total_square=16, decay=0.5)
    config = ReinforceConfig(advantage="baseline", baseline_floor=0.1)
    actual = advantages(np.array([10 / 3, 13 / 3]), config, twice)
    np.testing.assert_allclose(actual, [0, 3 / np.sqrt(11)], atol=1e-14)


def test_baseline_of_equal_returns_divides_by_the_floor():
    """Rounding may take the variance of equal returns below 0; that must not give NaN."""
    baseline = Baseline()
    for _ in range(7):
        baseline = baseline.updated(count=3, total=0.3, total_square=0.03, decay=0.9)
    np.testing.assert_allclose(baseline.normalise(np.array([0.1, 0.3]), floor=0.25), [0, 0.8], atol=1e-12)
    lower = Baseline(weight=1.0, mean=1.0, mean_square=1.0 - 1e-12)
    np.testing.assert_allclose(lower.normalise(np.array([1.5]), floor=0.25), [2])


def test_baseline_that_has_seen_nothing_leaves_the_return():
    np.testing.assert_allclose(Baseline().normalise(np.array([1.0, -2.0]), floor=0.25), [1, -2])


def spec_of(obs_size, hidden, num_actions, activation="relu"):
    return PolicySpec(
        obs_shape=(obs_size,),
        hidden_sizes=hidden,
        num_actions=num_actions,
        activation=activation,
        observation_key=None,
        observation_scale=1.0,
    )


def batch_of(obs, actions, advantage, weight=None):
    weight = np.full(len(actions), 1 / len(actions)) if weight is None else np.array(weight, float)
    return Batch(np.array(obs, float), np.array(actions), np.array(advantage, float), weight)


def test_softmax_gradient_by_hand():
    """Logits (0, log 3), so π = (1/4, 3/4); action 0 with advantage 2: ∂/∂z = 2·((1, 0) − π) = (3/2, −3/2).

    Observation 5: dW = 5·(3/2, −3/2), db = (3/2, −3/2). Entropy ¼·log 4 + ¾·(log 4 − log 3).
    """
    spec, theta = spec_of(1, (), 2), np.array([0, 0, 0, np.log(3)])
    config = ReinforceConfig(entropy_coefficient=0.0, logit_penalty=0.0)
    gradient, entropy = policy_gradient(batch_of([[5]], [0], [2]), policy_layers(theta, spec), spec, config, 0)
    np.testing.assert_allclose(gradient, [7.5, -7.5, 1.5, -1.5])
    assert entropy == pytest.approx(np.log(4) - 0.75 * np.log(3))


def objective(theta, batch, spec, config, torch_mlp):
    """Σ_t w_t [log π(a_t|s_t)·A_t + c·H(π(·|s_t)) − p·½·Σ_a (z_a − mean z)²], by torch."""
    model = torch_mlp(theta, spec.sizes, spec.activation)
    z = model(torch.tensor(batch.obs))
    pi = torch.distributions.Categorical(logits=z)
    terms = pi.log_prob(torch.tensor(batch.actions)) * torch.tensor(batch.advantage)
    terms = terms + config.entropy_coefficient * pi.entropy()
    terms = terms - config.logit_penalty * 0.5 * ((z - z.mean(1, keepdim=True)) ** 2).sum(1)
    return (torch.tensor(batch.weight) * terms).sum(), model, pi.entropy().sum()


def random_problem(rng, steps, spec):
    obs, actions = rng.normal(size=(steps, spec.obs_size)), rng.integers(spec.num_actions, size=steps)
    return batch_of(obs, actions, rng.normal(size=steps), rng.random(steps)), rng.normal(size=spec.num_parameters)


@pytest.mark.parametrize(("entropy_coefficient", "logit_penalty"), [(0, 0), (0.7, 0), (0, 0.4), (0.05, 0.02)])
@pytest.mark.parametrize(("hidden", "activation"), [((6,), "relu"), ((5, 4), "tanh")])
def test_policy_gradient_is_autograds(hidden, activation, entropy_coefficient, logit_penalty, torch_mlp):
    spec = spec_of(4, hidden, 3, activation)
    config = ReinforceConfig(entropy_coefficient=entropy_coefficient, logit_penalty=logit_penalty)
    batch, theta = random_problem(np.random.default_rng(0), 9, spec)
    total, model, entropy_sum = objective(theta, batch, spec, config, torch_mlp)
    expected = torch.cat([g.ravel() for g in torch.autograd.grad(total, model.parameters())])
    gradient, entropy = policy_gradient(batch, policy_layers(theta, spec), spec, config, 0)
    np.testing.assert_allclose(gradient, expected, atol=1e-12)
    assert entropy == pytest.approx(entropy_sum.item())


@given(
    steps=st.integers(1, 6),
    hidden=st.lists(st.integers(1, 4), max_size=2).map(tuple),
    num_actions=st.integers(1, 4),
    activation=st.sampled_from(["relu", "tanh"]),
    coefficients=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 2**31),
)
def test_policy_gradient_against_differences(
    steps, hidden, num_actions, activation, coefficients, seed, slope, torch_mlp
):
    spec, rng = spec_of(2, hidden, num_actions, activation), np.random.default_rng(seed)
    entropy_coefficient, logit_penalty = coefficients
    config = ReinforceConfig(entropy_coefficient=entropy_coefficient, logit_penalty=logit_penalty)
    batch, theta = random_problem(rng, steps, spec)
    direction = rng.normal(size=len(theta))
    expected = slope(lambda point: objective(point, batch, spec, config, torch_mlp)[0].item(), theta, direction, 1e-5)
    gradient, _ = policy_gradient(batch, policy_layers(theta, spec), spec, config, 0)
    assert gradient @ direction == pytest.approx(expected, rel=1e-7, abs=1e-7)


def test_a_saturated_policy_has_finite_gradient_and_still_feels_the_penalty():
    """Logits 0 and 2000: the entropy's pull vanishes, the penalty's is −(z − mean z) = (1000, −1000)."""
    spec, theta = spec_of(1, (), 2), np.array([0, 0, 0, 2000.0])
    config = ReinforceConfig(entropy_coefficient=1.0, logit_penalty=1.0)
    gradient, entropy = policy_gradient(batch_of([[0]], [1], [3]), policy_layers(theta, spec), spec, config, 0)
    np.testing.assert_allclose(gradient, [0, 0, 1000, -1000], atol=1e-9)
    assert entropy == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("update", "pull"), [(0, 1.0), (10, 0.5), (30, 0.125)])
def test_penalty_halves_with_the_updates(update, pull):
    """Logits 0 and 2, nothing to gain: ∂/∂z = −κ·(z − mean z) = κ·(1, −1), κ = 1 and half of it every 10 updates."""
    spec, theta = spec_of(1, (), 2), np.array([0, 0, 0, 2.0])
    config = ReinforceConfig(logit_penalty=1.0, logit_penalty_half_life=10)
    gradient, _ = policy_gradient(batch_of([[0]], [1], [0]), policy_layers(theta, spec), spec, config, update)
    np.testing.assert_allclose(gradient, [0, 0, pull, -pull], atol=1e-12)
