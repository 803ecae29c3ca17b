"""The agents that live on one rank: each plays its episodes and gives its contribution to the one reduction."""

from itertools import accumulate, chain, pairwise

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.config import Config
from qtrl_hpc.episode import Actor, Player, RunningEpisodes, Trajectory
from qtrl_hpc.fleet import Rows
from qtrl_hpc.policy import PolicySpec, policy_layers
from qtrl_hpc.reinforce import Baseline, Batch, advantages, discounted_returns, policy_gradient

# Sums that travel with the gradient: three over the episodes that ended in this update, the others over its steps.
STATISTICS = ("episodes", "reward", "length", "steps", "return", "squared_return", "entropy")


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
        self._config, self._spec = config, spec
        self._players = [
            Player(env, spec, seed=config.seed, agent=agent) for agent, env in enumerate(environments, first_agent)
        ]
        self._first_agent = first_agent

    def play(self, theta: NDArray[np.float64] | Rows, update: int) -> list[list[Trajectory]]:
        """Play each agent's episodes, or its steps, of one update.

        Args:
            theta: the policy's weights, shape (k,), float64: the same for all, or for each agent its own, None for one
                that sits the update out.
            update: its number counts the episodes, and so their random streams, where whole ones are played.

        Returns:
            For each agent, its trajectories; nothing for one that sits out.
        """
        if isinstance(theta, list):
            self._before = self.running()
            actors = [None if own is None else Actor(own, self._spec) for own in theta]
        else:
            actors = [Actor(theta, self._spec)] * len(self._players)
        steps, count = self._config.steps_per_update, self._config.episodes_per_update
        if steps is None:
            for player in self._players:
                player.episode = update * count
        return [
            [player.play(actor, steps) for _ in range(count)] if actor else []
            for player, actor in zip(self._players, actors, strict=True)
        ]

    def reinforce(
        self,
        trajectories: list[list[Trajectory]],
        theta: NDArray[np.float64] | Rows,
        baseline: Baseline,
        update: int,
    ) -> tuple[Rows, NDArray[np.float64]]:
        """Return each agent's policy gradient, averaged over its trajectories (Eq. 2), and its statistics.

        Where agents have one theta and the reduction need not be in agent order, one pass through the policy serves all
        the rank's agents.

        Args:
            trajectories: of ``play``.
            theta: that was played, as ``play`` took it.
            baseline: of the returns before this update.
            update: its number, as given to ``play``.

        Returns:
            ∂J/∂theta, shape (k,), row by row, and the sums of ``STATISTICS``, shape (rows, 7); rows = agents, or 1. An
            agent that sat out has None and zeros.
        """
        if isinstance(theta, list):
            return self._reinforce_each(trajectories, theta, baseline, update)
        layers = policy_layers(theta, self._spec)
        batches, statistics = map(list, zip(*(self._weigh(own, baseline) for own in trajectories), strict=True))
        if self._config.reduction == "allreduce":
            batches, statistics = [list(chain(*batches))], [sum(statistics)]
        gradients, entropies = zip(
            *(policy_gradient(Batch.joined(rows), layers, self._spec, self._config, update) for rows in batches),
            strict=True,
        )
        return list(gradients), np.column_stack([statistics, entropies])

    def _reinforce_each(
        self, trajectories: list[list[Trajectory]], thetas: Rows, baseline: Baseline, update: int
    ) -> tuple[Rows, NDArray[np.float64]]:
        gradients: Rows = [None] * len(thetas)
        statistics = np.zeros((len(thetas), len(STATISTICS)))
        for row, (own, theta) in enumerate(zip(trajectories, thetas, strict=True)):
            if theta is not None:
                batches, statistics[row, :-1] = self._weigh(own, baseline)
                gradients[row], statistics[row, -1] = policy_gradient(
                    Batch.joined(batches), policy_layers(theta, self._spec), self._spec, self._config, update
                )
        return gradients, statistics

    def running_before(self) -> RunningEpisodes:
        """Return where this rank's agents were before the last update that each played with a theta of its own."""
        return self._before

    def running(self) -> RunningEpisodes:
        """Return where this rank's agents are in their episodes."""
        players = self._players
        return RunningEpisodes(
            episode=np.array([player.episode for player in players], np.float64),
            length=np.array([len(player.actions) for player in players], np.float64),
            checksum=np.array([player.checksum() for player in players], np.float64),
            actions=np.array([action for player in players for action in player.actions], np.float64),
        )

    def resume(self, running: RunningEpisodes) -> None:
        """Play to where this rank's agents were.

        Args:
            running: of all agents of the run.

        Raises:
            UserError: an environment does not play the same episode again.
        """
        ends = accumulate(map(int, running.length), initial=0)
        actions = [running.actions[start:end].astype(int).tolist() for start, end in pairwise(ends)]
        for agent, player in enumerate(self._players, self._first_agent):
            player.resume(int(running.episode[agent]), actions[agent], int(running.checksum[agent]))

    def _weigh(self, own: list[Trajectory], baseline: Baseline) -> tuple[list[Batch], NDArray[np.float64]]:
        """Return one agent's steps with their advantages and weights, and its ``STATISTICS`` but for the entropy."""
        config, batches, statistics = self._config, [], np.zeros(len(STATISTICS) - 1)
        for trajectory in own:
            returns = discounted_returns(trajectory.rewards, trajectory.over, config.gamma, baseline.expected)
            steps, episodes = len(returns), trajectory.finished
            weight = 1.0 / len(own) / (steps if config.time_reduction == "mean" else 1)
            advantage = advantages(returns, config, baseline)
            batches.append(Batch(trajectory.obs, trajectory.actions, advantage, np.full(steps, weight)))
            statistics += [
                len(episodes),
                sum(reward for reward, _ in episodes),
                sum(length for _, length in episodes),
                steps,
                returns.sum(),
                returns @ returns,
            ]
        return batches, statistics
