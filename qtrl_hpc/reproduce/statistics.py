"""From the rewards of many seeds to figures with intervals."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9999
WINDOW = 100
"""Rounds of the running mean."""

ROUNDING = 1e-12
"""By so much a mean of rewards may fall short of a target that it equals."""

Statistic = Callable[..., NDArray[np.float64]]


@dataclass(frozen=True)
class Estimate:
    """A figure over seeds, with the ends of its 95% bootstrap interval."""

    value: float
    low: float
    high: float


def iqm(values: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Return the interquartile mean: the mean without the lowest and highest quarter (rounded down) of the values."""
    mean: NDArray[np.float64] = stats.trim_mean(values, 0.25, axis=axis)
    return mean


def estimate(*samples: NDArray[np.float64], statistic: Statistic = iqm) -> Estimate:
    """Return a statistic and its percentile bootstrap interval, seeds drawn anew.

    Args:
        samples: one number a seed each, shape (seeds,), the same seeds in each; infinite where one never got there.
        statistic: takes the samples and ``axis``.
    """
    value = float(statistic(*samples, axis=-1))
    if len(samples[0]) < 2 or all(np.all(sample == sample[0]) for sample in samples):
        return Estimate(value, value, value)
    rng = np.random.default_rng(0)
    seeds = rng.integers(len(samples[0]), size=(RESAMPLES, len(samples[0])))
    drawn = [sample[seeds] for sample in samples]
    tail = 50.0 * (1.0 - CONFIDENCE)
    # By order, not by interpolation: two infinite neighbours have no number between them.
    low, high = np.percentile(statistic(*drawn, axis=-1), [tail, 100.0 - tail], method="inverted_cdf")
    return Estimate(value, float(low), float(high))


def running_mean(rewards: NDArray[np.float64], window: int = WINDOW) -> NDArray[np.float64]:
    """Return the mean of each ``window`` rounds in a row, shape (..., rounds − window + 1)."""
    sums = np.cumsum(np.concatenate([np.zeros((*rewards.shape[:-1], 1)), rewards], axis=-1), axis=-1)
    means: NDArray[np.float64] = (sums[..., window:] - sums[..., :-window]) / window
    return means


def rounds_until(rewards: NDArray[np.float64], target: float, window: int = WINDOW) -> float:
    """Return the first round, from 1, at which the running mean is at least ``target``; infinite where it never is."""
    reached = np.flatnonzero(running_mean(rewards, window) >= target - ROUNDING)
    return float(reached[0] + window) if reached.size else np.inf


def speed_up(one: NDArray[np.float64], many: NDArray[np.float64], rounds: int) -> Estimate:
    """Return how many times fewer rounds N agents need than one, median over median.

    A seed of one agent that never gets there counts as if it did in the last round, which makes the speed-up smaller
    than it is; one of N agents counts as infinite.

    Args:
        one: rounds of one agent, shape (seeds,), infinite where it never got there.
        many: of N agents, shape (seeds,).
        rounds: that were run.
    """

    def ratio(one: NDArray[np.float64], many: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return np.median(np.minimum(one, rounds), axis) / np.median(many, axis)

    return estimate(one, many, statistic=ratio)


def band(curves: NDArray[np.float64], resamples: int = 1000) -> tuple[NDArray[np.float64], ...]:
    """Return the interquartile mean of curves and its pointwise 95% bootstrap interval.

    Args:
        curves: shape (seeds, points).
        resamples: of the seeds.

    Returns:
        Middle, low, high, each of shape (points,).
    """
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(curves), size=(resamples, len(curves)))
    tail = 50.0 * (1.0 - CONFIDENCE)
    ends = [
        np.percentile(iqm(points[drawn]), [tail, 100.0 - tail])
        for points in curves.T  # one point at a time: memory
    ]
    low, high = np.array(ends).T
    return iqm(curves, axis=0), low, high
