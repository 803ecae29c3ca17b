"""What a policy earned over some episodes, and how sure that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.environment import Purpose, seed_sequence
from qtrl_hpc.play import Played

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What episodes came to."""

    reward_mean: float
    reward_low: float | None
    """Lower end of the 95% bootstrap interval of the mean; None where one episode alone was played."""
    reward_high: float | None
    success_rate: float
    success_means: str
    """What counts as success in this environment."""
    episode_length_mean: float


def outcome(played: Sequence[Played], env: gymnasium.Env[Any, Any], seed: int) -> Outcome:
    """Return what episodes came to, at least one.

    Args:
        played: the episodes.
        env: that they were played in, whose word or threshold says what success is.
        seed: of the bootstrap.
    """
    rewards = np.array([each.reward for each in played])
    threshold = env.spec.reward_threshold if env.spec else None
    if played[0].is_success is not None:
        success_means, successes = "the environment's own is_success", np.array([each.is_success for each in played])
    elif threshold is not None:
        success_means, successes = f"a return of at least {threshold}", rewards >= threshold
    else:
        success_means, successes = "a return above 0", rewards > 0.0
    low, high = bootstrap_interval(rewards, seed)
    return Outcome(
        reward_mean=float(rewards.mean()),
        reward_low=low,
        reward_high=high,
        success_rate=float(successes.astype(bool).mean()),
        success_means=success_means,
        episode_length_mean=float(np.mean([each.length for each in played])),
    )


def bootstrap_interval(rewards: NDArray[np.float64], seed: int) -> tuple[float | None, float | None]:
    """Return the 95% bootstrap interval (bias-corrected and accelerated) of the mean, shape (episodes,) -> two numbers.

    Where all rewards are the same, so are the ends; from one reward there is no interval.
    """
    from scipy.stats import bootstrap

    if len(rewards) < 2:
        return None, None
    if np.ptp(rewards) == 0.0:
        return float(rewards[0]), float(rewards[0])
    rng = np.random.default_rng(seed_sequence(seed, Purpose.BOOTSTRAP))
    interval = bootstrap((rewards,), np.mean, confidence_level=CONFIDENCE, rng=rng).confidence_interval
    low, high = float(interval.low), float(interval.high)
    return (None, None) if math.isnan(low) or math.isnan(high) else (low, high)
