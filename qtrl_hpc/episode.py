"""One episode of one agent."""

from dataclasses import dataclass

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import mlp
from qtrl_hpc.policy import PolicySpec, flatten_observation, log_softmax


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One episode τ of T steps."""

    obs: NDArray[np.float64]
    """Flattened observations as the policy saw them, shape (T, obs_size)."""

    actions: NDArray[np.int64]
    """Shape (T,)."""

    rewards: NDArray[np.float64]
    """Reward after each action, shape (T,)."""

    terminated: bool
    """The episode ended by itself; otherwise it was cut (truncated)."""


def run_episode(
    env: gymnasium.Env,
    layers: mlp.Layers,
    spec: PolicySpec,
    *,
    seed: int,
    rng: np.random.Generator,
) -> Trajectory:
    """Play one episode, drawing each action from π(a|s) = softmax(W2·act(W1·s + b1) + b2).

    It ends by itself, or is cut after ``spec.max_episode_steps``.

    Args:
        env: is reset first.
        layers: of the policy (``policy_layers``).
        spec: of the policy.
        seed: for ``env.reset``.
        rng: for the actions; one uniform number a step.

    Returns:
        The trajectory.
    """
    observation, _ = env.reset(seed=seed)
    observations, actions, rewards = [], [], []
    terminated = False
    for _ in range(spec.max_episode_steps):
        obs = flatten_observation(observation, spec)
        action = sample_action(mlp.forward(layers, spec.activation, obs)[-1], rng.random())
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(obs)
        actions.append(action)
        rewards.append(float(reward))
        if terminated or truncated:
            break
    return Trajectory(
        obs=np.array(observations), actions=np.array(actions), rewards=np.array(rewards), terminated=bool(terminated)
    )


def sample_action(logits: NDArray[np.float64], uniform: float) -> int:
    """Return the action that ``uniform``, in [0, 1), picks from the cumulative distribution of softmax(logits)."""
    cumulative = np.exp(log_softmax(logits)).cumsum()
    return min(int(np.searchsorted(cumulative, uniform, side="right")), len(logits) - 1)
