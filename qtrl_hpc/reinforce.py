"""The policy gradient: trajectory and theta -> gradient with respect to theta."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import mlp
from qtrl_hpc.config import ReinforceConfig
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

    @property
    def expected(self) -> float:
        """Return μ, the running mean of the returns, or 0 before anything was seen."""
        return self.mean / self.weight if self.weight else 0.0

    def normalise(self, returns: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
        """Return (G_t − running mean) / max(running spread, floor), or G_t itself before anything was seen."""
        if self.weight == 0.0:
            return returns
        mean = self.expected
        spread = np.sqrt(max(self.mean_square / self.weight - mean * mean, 0.0))
        normalised: NDArray[np.float64] = (returns - mean) / max(spread, floor)
        return normalised


def discounted_returns(
    rewards: NDArray[np.float64], over: NDArray[np.bool_], gamma: float, following: float = 0.0
) -> NDArray[np.float64]:
    """Return G_t = r_t + γ·G_{t+1} (Eq. 1), where G_{t+1} = 0 if the episode was over after step t.

    Args:
        rewards: shape (T,), float64.
        over: whether the episode was over after each step, shape (T,), bool.
        gamma: discount, in [0, 1].
        following: G_T, what is expected of an episode that goes on after the last step.

    Returns:
        Shape (T,), float64.
    """
    returns = []
    # Plain floats: quicker than numbers taken out of arrays one by one.
    for reward, ended in zip(reversed(rewards.tolist()), reversed(over.tolist()), strict=True):
        following = reward + gamma * (0.0 if ended else following)
        returns.append(following)
    return np.array(returns[::-1])


def advantages(returns: NDArray[np.float64], config: ReinforceConfig, baseline: Baseline) -> NDArray[np.float64]:
    """Return what each step's log-probability is weighed by, shape (T,), as ``config.advantage`` says."""
    if config.advantage == "return":
        return returns
    if config.advantage == "standardised":
        spread = returns.std(ddof=1) if len(returns) > 1 else 0.0
        standardised: NDArray[np.float64] = (returns - returns.mean()) / (spread + STANDARDISATION_EPSILON)
        return standardised
    return baseline.normalise(returns, config.baseline_floor)


class Batch(NamedTuple):
    """M steps, of one trajectory or of many, and what each counts for."""

    obs: NDArray[np.float64]
    """Shape (M, obs_size)."""

    actions: NDArray[np.int64]
    """Shape (M,)."""

    advantage: NDArray[np.float64]
    """A_t, shape (M,)."""

    weight: NDArray[np.float64]
    """What a step's term is multiplied by before all are added up, shape (M,)."""

    @classmethod
    def joined(cls, batches: Iterable["Batch"]) -> "Batch":
        """Return the steps of all batches, in their order."""
        return cls(*map(np.concatenate, zip(*batches, strict=True)))


def policy_gradient(
    batch: Batch, layers: mlp.Layers, spec: PolicySpec, config: ReinforceConfig, update: int
) -> tuple[NDArray[np.float64], float]:
    """Return the direction in which to move theta, for ascent, by one pass forward and one back.

    ``∇_θ Σ_t w_t [log π(a_t|s_t)·A_t + entropy_coefficient·H(π(·|s_t)) − logit_penalty·½·Σ_a (z_a − mean z)²]``:
    Eq. 2 with the regularisers of the presets, where ``w_t = 1/|τ|``.

    Args:
        batch: M steps, with A_t and w_t.
        layers: of the policy that played them.
        spec: of the policy.
        config: the coefficients.
        update: how many updates were made before; the penalty's weight falls with it.

    Returns:
        The gradient, shape (k,), float64, and the sum over steps of the policy's entropy, in nats.
    """
    outputs = mlp.forward(layers, spec.activation, batch.obs)
    d_logits, entropy = logits_cotangent(outputs[-1], batch, config, update)
    d_theta, _ = mlp.backward(layers, spec.activation, batch.obs, outputs, d_logits)
    return d_theta, entropy


def logits_cotangent(
    logits: NDArray[np.float64], batch: Batch, config: ReinforceConfig, update: int
) -> tuple[NDArray[np.float64], float]:
    """Return the gradient of what ``policy_gradient`` ascends with respect to the logits z.

    Args:
        logits: of the policy at each step, shape (M, actions), float64.
        batch: M steps, with A_t and w_t.
        config: the coefficients.
        update: how many updates were made before.

    Returns:
        Shape (M, actions), float64, and the sum over steps of the policy's entropy, in nats.
    """
    log_pi = log_softmax(logits)
    pi = np.exp(log_pi)
    entropy = -(pi * log_pi).sum(axis=1, keepdims=True)
    d_logits = -pi * batch.advantage[:, None]
    d_logits[np.arange(len(batch.actions)), batch.actions] += batch.advantage
    d_logits -= config.entropy_coefficient * pi * (log_pi + entropy)
    d_logits -= config.logit_penalty_at(update) * (logits - logits.mean(axis=1, keepdims=True))
    d_logits *= batch.weight[:, None]
    return d_logits, float(entropy.sum())
