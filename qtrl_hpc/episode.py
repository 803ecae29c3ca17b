"""An agent at play: its steps, its episodes, and how an episode that a checkpoint cut in two is taken up again."""

import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import exp, isfinite
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import registry
from qtrl_hpc.config import Config
from qtrl_hpc.environment import (
    RESET,
    STEP,
    Purpose,
    make_environment,
    misreturned,
    policy_spec,
    reset_seed,
    seed_sequence,
)
from qtrl_hpc.errors import ReturnedError, UserError
from qtrl_hpc.policy import PolicySpec, flatten_observation, observed, policy_layers, write_observation

FIRST_ROWS = 128

Choice = Callable[[NDArray[np.float64], float], int]
"""From an observation, shape (obs_size,), and a uniform number in [0, 1) to an action."""


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """T steps τ of one agent, over which Eq. 2 averages: one episode, or a window of so many steps."""

    obs: NDArray[np.float64]
    """Flattened observations as the policy saw them, shape (T, obs_size)."""

    actions: NDArray[np.int64]
    """Shape (T,)."""

    rewards: NDArray[np.float64]
    """Reward after each action, shape (T,)."""

    over: NDArray[np.bool_]
    """Whether the episode was over after this step, by itself or cut, shape (T,); the last one may go on."""

    finished: list[tuple[float, int]]
    """Sum of rewards and length of each episode that ended here, the part before this trajectory included."""


class RunningEpisodes(NamedTuple):
    """Where N agents are in their episodes, in agent order. Numbers all, but float64 as all that travels."""

    episode: NDArray[np.float64]
    """Number of the episode that an agent is in or begins next, shape (N,)."""

    length: NDArray[np.float64]
    """Its steps so far, shape (N,)."""

    checksum: NDArray[np.float64]
    """CRC-32 of the observation that the agent sees now, as the policy reads it, shape (N,); 0 at length 0."""

    actions: NDArray[np.float64]
    """The actions so far, one agent's after another's, shape (sum of lengths,)."""

    @classmethod
    def none(cls, num_agents: int) -> "RunningEpisodes":
        """Return what stands before the first step of a run."""
        zeros = np.zeros(num_agents)
        return cls(zeros, zeros, zeros, np.zeros(0))

    def datasets(self) -> dict[str, NDArray[np.float64]]:
        """Return the arrays by their names in a checkpoint file."""
        return {f"/running/{name}": values for name, values in self._asdict().items()}

    @classmethod
    def from_datasets(cls, data: dict[str, NDArray[np.float64]]) -> "RunningEpisodes":
        """Read what ``datasets`` made; a KeyError names what is missing."""
        return cls(*(data[f"/running/{name}"] for name in cls._fields))

    def places(self) -> list[tuple[int, list[int], int]]:
        """Return for each agent the number of its episode, the actions so far and the checksum."""
        ends = accumulate(map(int, self.length), initial=0)
        actions = [self.actions[start:end].astype(int).tolist() for start, end in pairwise(ends)]
        return list(zip(self.episode.astype(int).tolist(), actions, self.checksum.astype(int).tolist(), strict=True))

    @classmethod
    def of_places(cls, places: list[tuple[int, list[int], int]]) -> "RunningEpisodes":
        """Return what ``places`` was made of."""
        return cls(
            episode=np.array([episode for episode, _, _ in places], np.float64),
            length=np.array([len(actions) for _, actions, _ in places], np.float64),
            checksum=np.array([checksum for _, _, checksum in places], np.float64),
            actions=np.array([action for _, actions, _ in places for action in actions], np.float64),
        )

    def of(self, agents: list[int]) -> "RunningEpisodes":
        """Return where some agents are, in their order."""
        places = self.places()
        return self.of_places([places[agent] for agent in agents])

    def in_order(self, numbers: NDArray[np.float64], num_agents: int) -> "RunningEpisodes":
        """Return where all agents are; one that is nowhere among ``numbers`` begins an episode that nobody has played.

        Args:
            numbers: of the agents that these are.
            num_agents: N.
        """
        known = dict(zip(numbers.astype(int).tolist(), self.places(), strict=True))
        fresh: tuple[int, list[int], int] = (int(self.episode.max(initial=-1.0)) + 1, [], 0)
        return self.of_places([known.get(agent, fresh) for agent in range(num_agents)])

    def check(self, num_agents: int, spec: PolicySpec) -> None:
        """Refuse what no run can have left.

        Raises:
            ValueError: saying what makes no sense.
        """
        if not self.episode.shape == self.length.shape == self.checksum.shape == (num_agents,):
            raise ValueError(f"the running episodes are not those of {num_agents} agents")
        if any((values < 0).any() or (values != np.floor(values)).any() for values in self):
            raise ValueError("a running episode has a number that is not whole, or below 0")
        if (self.length >= spec.max_episode_steps).any() or self.actions.shape != (self.length.sum(),):
            raise ValueError("the running episodes are too long, or have not as many actions as steps")
        if (self.actions >= spec.num_actions).any():
            raise ValueError(f"a running episode has an action beyond {spec.num_actions - 1}")


class Actor:
    """Draw actions from one theta, observation by observation: π(a|s) = softmax(W2·act(W1·s + b1) + b2).

    An environment's step may take no more than a few µs, so nothing here makes an array anew at a step.

    Args:
        theta: the policy's weights, shape (k,), float64.
        spec: of the policy.
    """

    def __init__(self, theta: NDArray[np.float64], spec: PolicySpec) -> None:
        *hidden, (self._weight, self._bias) = policy_layers(theta, spec)
        self._hidden = [(weight, bias, np.empty(bias.size)) for weight, bias in hidden]
        self._logits = np.empty(spec.num_actions)
        self._relu = spec.activation == "relu"

    def __call__(self, obs: NDArray[np.float64], uniform: float) -> int:
        """Return the action that ``uniform``, in [0, 1), picks at an observation, shape (obs_size,), float64."""
        values = obs
        for weight, bias, out in self._hidden:
            np.dot(weight, values, out)
            np.add(out, bias, out)
            if self._relu:
                np.maximum(out, 0.0, out=out)
            else:
                np.tanh(out, out)
            values = out
        np.dot(self._weight, values, self._logits)
        np.add(self._logits, self._bias, self._logits)
        return sample_action(self._logits.tolist(), uniform)


def sample_action(logits: list[float], uniform: float) -> int:
    """Return the first action a with Σ_{b≤a} π(b|s) > ``uniform``, in [0, 1), where π = softmax(logits).

    Both sides are multiplied by softmax's denominator. Plain floats: for a handful of actions quicker than arrays.
    """
    highest = max(logits)
    weights = [exp(logit - highest) for logit in logits]
    threshold = uniform * sum(weights)
    cumulative = 0.0
    for action, weight in enumerate(weights):
        cumulative += weight
        if cumulative > threshold:
            return action
    return len(weights) - 1  # logits that are not finite; their gradient stops the run


class Player:
    """One agent, its environment, and the episode that it is in.

    An episode's random streams hang on the seed, the agent and the episode's number alone. So a running episode is
    known by its number and its actions so far.

    Args:
        env: of this agent alone.
        spec: of the policy.
        seed: of the run.
        agent: its number among all agents of the run.
    """

    def __init__(self, env: gymnasium.Env, spec: PolicySpec, *, seed: int, agent: int) -> None:
        self._env, self._spec, self._seed, self._agent = env, spec, seed, agent
        self.episode = 0
        """Number of the episode that it is in or begins next."""
        self.actions: list[int] = []
        """Of that episode so far; with none, it has not begun."""

    def play(self, actor: Choice, steps: int | None = None) -> Trajectory:
        """Play so many steps, going from one episode to the next; without a number, until an episode is over.

        An episode ends by itself, or is cut by its environment or after ``spec.max_episode_steps``.

        Args:
            actor: draws the actions; one uniform number a step.
            steps: T.

        Raises:
            ReturnedError: the environment returns something else than it must. Nothing is asked before that is so:
                whole arrays would be looked at for it at each step.
        """
        limit = self._spec.max_episode_steps if steps is None else steps
        obs = np.empty((min(limit, FIRST_ROWS), self._spec.obs_size))
        actions: list[int] = []
        rewards: list[float] = []
        over: list[bool] = []
        finished: list[tuple[float, int]] = []
        while len(actions) < limit:
            if not self.actions:
                self._begin()
            if len(actions) == len(obs):
                obs = np.concatenate([obs, np.empty_like(obs)])
            row = obs[len(actions)]
            write_observation(self._observation, self._spec, row)
            action = actor(row, self._uniform())
            reward, ended = self._step(action)
            actions.append(action)
            rewards.append(reward)
            over.append(ended)
            if ended:
                finished.append((self._reward, len(self.actions)))
                self.episode, self.actions = self.episode + 1, []
                if steps is None:
                    break
        return Trajectory(
            obs=obs[: len(actions)],
            actions=np.array(actions, np.int64),
            rewards=np.array(rewards, np.float64),
            over=np.array(over, np.bool_),
            finished=finished,
        )

    def checksum(self) -> int:
        """Return the CRC-32 of the observation that it sees now, as the policy reads it; 0 between episodes."""
        return zlib.crc32(flatten_observation(self._observation, self._spec).tobytes()) if self.actions else 0

    def resume(self, episode: int, actions: list[int], checksum: int) -> None:
        """Play to where an agent was: the environment begins the episode anew and is given the same actions.

        Args:
            episode: its number.
            actions: so far.
            checksum: of the observation that the agent saw then.

        Raises:
            UserError: the environment does not play the same episode again.
        """
        self.episode, self.actions = episode, []
        if not actions:
            return
        self._begin()
        self._rng.random(len(actions))
        if any(self._step(action)[1] for action in actions) or self.checksum() != checksum:
            raise UserError(
                f"--resume: got another observation from the environment of agent {self._agent} after the "
                f"{len(actions)} steps of episode {episode} that the checkpoint holds, expected the one that it saw"
            )

    def try_out(self) -> None:
        """Begin the episode and make one step, and look at all that the environment returns.

        Raises:
            ReturnedError: it is something else than it must be.
        """
        self._begin()
        self._look()
        reward, _ = self._step(0)
        self._look()
        if not isfinite(reward):
            raise ReturnedError(f"expected step to return a finite reward, got {reward}")

    def _look(self) -> None:
        """Refuse an observation of another shape, which would be flattened, or of what is no number."""
        key, found = self._spec.observation_key, self._observation
        with suppress(TypeError, ValueError, LookupError):
            found = np.asarray(found if key is None else found[key])
        numbers = isinstance(found, np.ndarray) and found.dtype.kind in "biuf"
        if not numbers or found.shape != self._spec.obs_shape:
            raise ReturnedError(f"expected observations {observed(self._spec)}, got {registry.described(found)}")
        if not np.isfinite(found).all():
            raise ReturnedError("expected observations of finite numbers")

    def _begin(self) -> None:
        key = (self._agent, self.episode)
        self._rng = np.random.default_rng(seed_sequence(self._seed, Purpose.ACTIONS, *key))
        self._uniform = self._rng.random
        self._observation: Any
        found: Any = self._env.reset(seed=reset_seed(seed_sequence(self._seed, Purpose.ENVIRONMENT, *key)))
        if not isinstance(found, tuple) or len(found) != 2:  # an observation of two numbers would pass for it
            raise misreturned("reset", RESET, found)
        self._observation, _ = found
        self._reward = 0.0

    def _step(self, action: int) -> tuple[float, bool]:
        """Return the reward of one step, and whether the episode is over after it."""
        found: Any = self._env.step(action)
        try:
            self._observation, reward, terminated, truncated, _ = found
            reward, over = float(reward), bool(terminated or truncated)
        except (TypeError, ValueError):
            raise misreturned("step", STEP, found) from None
        self.actions.append(action)
        self._reward += reward
        return reward, over or len(self.actions) >= self._spec.max_episode_steps


def check_plays(config: Config) -> None:
    """Try an environment of the user's own for one step, in an instance that nobody trains in, and close it.

    What it raises is left as it is.

    Raises:
        UserError: it cannot be made, does not suit the policy, or returns something else than it must.
    """
    env = make_environment(config.env_id)
    try:
        spec = policy_spec(env, config, config)
        with registry.naming("env-id", config.env_id):
            Player(env, spec, seed=0, agent=0).try_out()
    finally:
        env.close()
