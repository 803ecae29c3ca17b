"""The agents that live on one rank: each plays its episodes and gives its contribution to the one reduction."""

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.config import Config
from qtrl_hpc.environment import Purpose, reset_seed, seed_sequence
from qtrl_hpc.episode import Trajectory, run_episode
from qtrl_hpc.policy import PolicySpec, policy_layers
from qtrl_hpc.reinforce import Baseline, advantages, discounted_returns, policy_gradient

# Sums over episodes that travel with the gradient.
STATISTICS = ("episodes", "reward", "length", "entropy", "return", "squared_return")


class Agents:
    """Play the agents of one rank.

    Args:
        config: of the run.
        spec: of the policy.
        environments: one for each agent.
        first_agent: the number of the first of them among all agents of the run.
    """

    def __init__(
        self, config: Config, spec: PolicySpec, environments: list[gymnasium.Env], *, first_agent: int
    ) -> None:
        self._config, self._spec, self._environments = config, spec, environments
        self._first_agent = first_agent

    def play(self, theta: NDArray[np.float64], update: int) -> list[list[Trajectory]]:
        """Play each agent's episodes of one update.

        Args:
            theta: the policy's weights, shape (k,), float64.
            update: its number counts the episodes, and so their random streams.

        Returns:
            For each agent, its trajectories.
        """
        layers = policy_layers(theta, self._spec)
        count = self._config.episodes_per_update
        return [
            [self._episode(layers, index, episode) for episode in range(update * count, (update + 1) * count)]
            for index in range(len(self._environments))
        ]

    def reinforce(
        self, trajectories: list[list[Trajectory]], theta: NDArray[np.float64], baseline: Baseline
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return each agent's policy gradient, averaged over its episodes (Eq. 2), and its statistics.

        Where the reduction need not be in agent order, both are added up over the rank's agents: the pullback is
        linear, so that one serves them all.

        Args:
            trajectories: of ``play``.
            theta: that was played, shape (k,), float64.
            baseline: of the returns before this update.

        Returns:
            ∂J/∂theta, shape (rows, k), and the sums of ``STATISTICS``, shape (rows, 6); rows = agents, or 1.
        """
        layers = policy_layers(theta, self._spec)
        d_theta = np.zeros((len(trajectories), len(theta)))
        statistics = np.zeros((len(trajectories), len(STATISTICS)))
        for row, own in enumerate(trajectories):
            for trajectory in own:
                returns = discounted_returns(trajectory.rewards, self._config.gamma)
                advantage = advantages(returns, self._config, baseline)
                gradient, entropy = policy_gradient(trajectory, layers, self._spec, advantage, self._config)
                d_theta[row] += gradient / len(own)
                statistics[row] += [
                    1,
                    trajectory.rewards.sum(),
                    len(returns),
                    entropy,
                    returns.sum(),
                    returns @ returns,
                ]
        if self._config.reduction == "allreduce":
            return d_theta.sum(axis=0, keepdims=True), statistics.sum(axis=0, keepdims=True)
        return d_theta, statistics

    def _episode(self, layers: list, index: int, episode: int) -> Trajectory:
        seed, agent = self._config.seed, self._first_agent + index
        return run_episode(
            self._environments[index],
            layers,
            self._spec,
            seed=reset_seed(seed_sequence(seed, Purpose.ENVIRONMENT, agent, episode)),
            rng=np.random.default_rng(seed_sequence(seed, Purpose.ACTIONS, agent, episode)),
        )
