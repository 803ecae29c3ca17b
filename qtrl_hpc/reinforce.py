"""The policy gradient: trajectory and theta -> gradient with respect to theta."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import mlp
from qtrl_hpc.config import ReinforceConfig
from qtrl_hpc.episode import Trajectory
from qtrl_hpc.policy import PolicySpec, log_softmax

STANDARDISATION_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Running mean and mean square of the returns of all agents; weight 0 means nothing seen yet."""

    weight: float = 0.0
    mean: float = 0.0
    mean_square: float = 0.0

    def updated(self, count: float, total: float, total_square: float, decay: float) -> "Baseline":
        """Return the baseline after one more update's returns: decay·old + (1 − decay)·new."""
        return Baseline(
            weight=decay * self.weight + (1.0 - decay),
            mean=decay * self.mean + (1.0 - decay) * total / count,
            mean_square=decay * self.mean_square + (1.0 - decay) * total_square / count,
        )

    def normalise(self, returns: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
        """Return (G_t − running mean) / max(running spread, floor), or G_t itself before anything was seen."""
        if self.weight == 0.0:
            return returns
        mean = self.mean / self.weight
        spread = np.sqrt(max(self.mean_square / self.weight - mean * mean, 0.0))
        return (returns - mean) / max(spread, floor)


def discounted_returns(rewards: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """Return G_t = r_t + γ·G_{t+1}, G_T = 0 (Eq. 1).

    Args:
        rewards: shape (T,), float64.
        gamma: discount, in [0, 1].

    Returns:
        Shape (T,), float64.
    """
    returns = np.empty_like(rewards)
    following = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        following = rewards[t] + gamma * following
        returns[t] = following
    return returns


def advantages(returns: NDArray[np.float64], config: ReinforceConfig, baseline: Baseline) -> NDArray[np.float64]:
    """Return what each step's log-probability is weighed by, shape (T,), as ``config.advantage`` says."""
    if config.advantage == "return":
        return returns
    if config.advantage == "standardised":
        spread = returns.std(ddof=1) if len(returns) > 1 else 0.0
        return (returns - returns.mean()) / (spread + STANDARDISATION_EPSILON)
    return baseline.normalise(returns, config.baseline_floor)


def policy_gradient(
    trajectory: Trajectory,
    layers: mlp.Layers,
    spec: PolicySpec,
    advantage: NDArray[np.float64],
    config: ReinforceConfig,
) -> tuple[NDArray[np.float64], float]:
    """Return the direction in which to move theta, for ascent.

    Eq. 2, ∇_θ (1/|τ|) Σ_t log π(a_t|s_t)·A_t, with the regularisers of the presets inside the sum:
    + entropy_coefficient·H(π(·|s_t)) − logit_penalty·½·Σ_a (z_a − mean z)². ``time_reduction`` "sum" drops 1/|τ|.

    Args:
        trajectory: T steps.
        layers: of the policy that played it.
        spec: of the policy.
        advantage: A_t, shape (T,), float64.
        config: the coefficients.

    Returns:
        The gradient, shape (k,), float64, and the policy's mean entropy over the trajectory, in nats.
    """
    outputs = mlp.forward(layers, spec.activation, trajectory.obs)
    log_pi = log_softmax(outputs[-1])
    pi = np.exp(log_pi)
    entropy = -(pi * log_pi).sum(axis=1, keepdims=True)
    d_logits = -pi * advantage[:, None]
    d_logits[np.arange(len(advantage)), trajectory.actions] += advantage
    d_logits -= config.entropy_coefficient * pi * (log_pi + entropy)
    d_logits -= config.logit_penalty * (outputs[-1] - outputs[-1].mean(axis=1, keepdims=True))
    if config.time_reduction == "mean":
        d_logits /= len(advantage)
    d_theta, _ = mlp.backward(layers, spec.activation, trajectory.obs, outputs, d_logits)
    return d_theta, float(entropy.mean())
