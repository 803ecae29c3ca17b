"""Gradient ascent on Theta: clip, then plain SGD or Adam. The same on every rank."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.config import OptimizerConfig

ADAM_BETA1 = 0.9
ADAM_BETA2 = 0.999
ADAM_EPSILON = 1e-8


@dataclass(frozen=True, kw_only=True)
class OptimizerState:
    """First and second moments of the gradient, shape (P + l,), and the number of steps taken."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    steps: int = 0

    @classmethod
    def zeros(cls, size: int) -> "OptimizerState":
        """Return the state before the first step."""
        return cls(first=np.zeros(size), second=np.zeros(size))


def clip_by_norm(gradient: NDArray[np.float64], max_norm: float | None) -> NDArray[np.float64]:
    """Return the gradient scaled down to at most ``max_norm`` (Euclidean, over all of Theta); None leaves it."""
    norm = np.linalg.norm(gradient)
    return gradient if max_norm is None or norm <= max_norm else gradient * (max_norm / norm)


def ascend(
    vector: NDArray[np.float64], gradient: NDArray[np.float64], state: OptimizerState, config: OptimizerConfig
) -> tuple[NDArray[np.float64], OptimizerState]:
    """Take one step uphill (Eq. 5; for Adam, Kingma and Ba, arXiv 1412.6980, Algorithm 1).

    Args:
        vector: Theta, shape (P + l,), float64.
        gradient: the mean over agents of ∂J/∂Theta, same shape.
        state: of the optimiser.
        config: which optimiser, step size and its half-life, clipping.

    Returns:
        The new Theta vector and the new state; the arguments are left alone.
    """
    gradient = clip_by_norm(gradient, config.max_grad_norm)
    steps = state.steps + 1
    learning_rate = config.learning_rate_at(state.steps)
    if config.optimizer == "sgd":
        return vector + learning_rate * gradient, OptimizerState(first=state.first, second=state.second, steps=steps)
    first = ADAM_BETA1 * state.first + (1.0 - ADAM_BETA1) * gradient
    second = ADAM_BETA2 * state.second + (1.0 - ADAM_BETA2) * gradient * gradient
    unbiased_first = first / (1.0 - ADAM_BETA1**steps)
    unbiased_second = second / (1.0 - ADAM_BETA2**steps)
    vector = vector + learning_rate * unbiased_first / (np.sqrt(unbiased_second) + ADAM_EPSILON)
    return vector, OptimizerState(first=first, second=second, steps=steps)
