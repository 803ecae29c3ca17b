"""The agents that live on one rank: each plays its episodes and gives its contribution to the one reduction."""

from collections.abc import Callable
from itertools import chain
from typing import Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.config import Config, ReinforceConfig
from qtrl_hpc.episode import Actor, Choice, Player, RunningEpisodes, Trajectory
from qtrl_hpc.errors import ReturnedError, UserError
from qtrl_hpc.fleet import Rows
from qtrl_hpc.policy import MLP, PolicySpec, policy_layers
from qtrl_hpc.registry import naming
from qtrl_hpc.reinforce import Baseline, Batch, advantages, discounted_returns, policy_gradient

# Sums that travel with the gradient: three over the episodes that ended in this update, the others over its steps.
STATISTICS = ("episodes", "reward", "length", "steps", "return", "squared_return", "entropy")


class Network(Protocol):
    """A policy network: how it acts, and its gradient."""

    def actor(self, theta: NDArray[np.float64]) -> Choice:
        """Return what draws actions from one theta, shape (k,), float64."""
        ...

    def gradient(
        self, batch: Batch, theta: NDArray[np.float64], config: ReinforceConfig, update: int
    ) -> tuple[NDArray[np.float64], float]:
        """Return ∂J/∂θ, shape (k,), float64, and the sum of entropies (see ``reinforce.policy_gradient``)."""
        ...


class MlpPolicy:
    """A policy of layers, by NumPy.

    Args:
        spec: of the policy.
    """

    def __init__(self, spec: PolicySpec) -> None:
        self._spec = spec

    def actor(self, theta: NDArray[np.float64]) -> Choice:
        """Return what draws actions from one theta (see ``Network.actor``)."""
        return Actor(theta, self._spec)

    def gradient(
        self, batch: Batch, theta: NDArray[np.float64], config: ReinforceConfig, update: int
    ) -> tuple[NDArray[np.float64], float]:
        """Return ∂J/∂θ and the sum of entropies (see ``Network.gradient``)."""
        return policy_gradient(batch, policy_layers(theta, self._spec), self._spec, config, update)


def make_network(spec: PolicySpec, threads: int) -> Network:
    """Return the network that a spec names, which is imported where it is the user's own.

    Raises:
        ValueError: it cannot be imported or made.
    """
    if spec.network == MLP:
        return MlpPolicy(spec)
    # Not at the top: torch costs a rank more than a second of start-up.
    from qtrl_hpc.torch_policy import TorchPolicy

    return TorchPolicy(spec, threads)


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
        self._network = make_network(spec, config.threads)
        self.numbers = list(range(first_agent, first_agent + len(environments)))
        """Of these agents, among all agents of the run."""
        self._players = [self._player(agent, env) for agent, env in zip(self.numbers, environments, strict=True)]

    def furthest(self) -> int:
        """Return the highest number of an episode that one of these agents is in."""
        return max(player.episode for player in self._players)

    def change(self, numbers: list[int], make: Callable[[], gymnasium.Env], unplayed: int) -> None:
        """Play other agents from now on; one that is new here begins a new episode.

        Args:
            numbers: of the agents, among all agents of the run.
            make: an environment for one that is new here.
            unplayed: number of that episode.
        """
        players = dict(zip(self.numbers, self._players, strict=True))
        for agent in [agent for agent in numbers if agent not in players]:
            players[agent] = self._player(agent, make())
            players[agent].episode = unplayed
        self._players = [players[agent] for agent in numbers]
        self.numbers = list(numbers)

    def _player(self, agent: int, env: gymnasium.Env) -> Player:
        return Player(env, self._spec, seed=self._config.seed, agent=agent)

    def play(self, theta: NDArray[np.float64] | Rows, update: int) -> list[list[Trajectory]]:
        """Play each agent's episodes, or its steps, of one update.

        Args:
            theta: the policy's weights, shape (k,), float64: the same for all, or for each agent its own, None for one
                that sits the update out.
            update: its number counts the episodes, and so their random streams, where whole ones are played.

        Returns:
            For each agent, its trajectories; nothing for one that sits out.

        Raises:
            UserError: an environment returns something else than it must.
        """
        if isinstance(theta, list):
            actors = [None if own is None else self._network.actor(own) for own in theta]
        else:
            actors = [self._network.actor(theta)] * len(self._players)
        steps, count = self._config.steps_per_update, self._config.episodes_per_update
        if steps is None:
            for player in self._players:
                player.episode = update * count
        try:
            return [
                [player.play(actor, steps) for _ in range(count)] if actor else []
                for player, actor in zip(self._players, actors, strict=True)
            ]
        except ReturnedError as error:
            raise UserError(f"--env-id: got {self._config.env_id!r}, {error}") from None

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
        batches, statistics = map(list, zip(*(self._weigh(own, baseline) for own in trajectories), strict=True))
        if self._config.reduction == "allreduce":
            batches, statistics = [list(chain(*batches))], [sum(statistics)]
        gradients, entropies = zip(
            *(self._network.gradient(Batch.joined(rows), theta, self._config, update) for rows in batches),
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
                gradients[row], statistics[row, -1] = self._network.gradient(
                    Batch.joined(batches), theta, self._config, update
                )
        return gradients, statistics

    def running(self) -> RunningEpisodes:
        """Return where this rank's agents are in their episodes."""
        return RunningEpisodes.of_places(
            [(player.episode, player.actions, player.checksum()) for player in self._players]
        )

    def resume(self, running: RunningEpisodes) -> None:
        """Play to where agents were.

        Args:
            running: of these agents, in their order.

        Raises:
            UserError: an environment does not play the same episode again, or returns something else than it must.
        """
        with naming("env-id", self._config.env_id):
            for player, place in zip(self._players, running.places(), strict=True):
                player.resume(*place)

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
