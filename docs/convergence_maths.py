"""What docs/convergence.py computes with: statistics of samples, and exact expectations in a small environment.

In an environment of few states, without chance, whose reward comes with the end of an episode alone, the expectation
over all episodes of a policy can be had exactly, by adding up the probabilities of its states from step to step.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import mlp
from qtrl_hpc.config import Config
from qtrl_hpc.policy import PolicySpec, flatten_observation, log_softmax, policy_layers
from qtrl_hpc.reinforce import Baseline, Batch, advantages, discounted_returns, policy_gradient

Vector = NDArray[np.float64]

SIGMA = 1.96  # standard errors of a 95 % interval


# Statistics. Functions of numbers alone; tests/test_convergence.py has them by hand.


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ± {SIGMA * self.error:.2g}"


def moments(count: float, total: Any, trace: Any) -> tuple[Any, Any]:
    """Return ‖E g‖² and tr Cov g, both without bias, from the inner products of so many independent g.

    ‖E g‖² is the mean of g_i·g_j over i ≠ j: ‖mean‖² less tr Cov/count, or the mean over all cuts into halves of the
    inner product of the halves' means.

    Args:
        count: how many.
        total: Σ_ij g_i·g_j.
        trace: Σ_i g_i·g_i.
    """
    return (total - trace) / (count * (count - 1)), (trace - total / count) / (count - 1)


def jackknife(samples: NDArray[np.float64], statistic: Callable[[Any, Any], Any]) -> Estimate:
    """Return a function of the two moments of the rows, and its error from leaving out each row in turn."""
    count, sums = len(samples), samples.sum(axis=0)
    own, with_all = np.einsum("ij,ij->i", samples, samples), samples @ sums
    total, trace = sums @ sums, own.sum()
    left_out = statistic(*moments(count - 1, total - 2.0 * with_all + own, trace - own))
    error = np.sqrt((count - 1) / count * np.sum((left_out - left_out.mean()) ** 2))
    return Estimate(float(statistic(*moments(count, total, trace))), float(error))


def squared_mean(squared: Any, variance: Any) -> Any:
    """Return ‖E g‖²."""
    return squared


def norm_of_mean(squared: Any, variance: Any) -> Any:
    """Return ‖E g‖; below 0 where the estimate of its square is."""
    return np.sign(squared) * np.sqrt(np.abs(squared))


def total_variance(squared: Any, variance: Any) -> Any:
    """Return tr Cov g."""
    return variance


def slope(x: Vector, values: list[Estimate]) -> Estimate:
    """Return the slope of log value against log x, by least squares weighted with the logarithms' errors."""
    log_x, log_y = np.log(x), np.log([each.value for each in values])
    weights = np.array([(each.value / each.error) ** 2 for each in values])
    centred = log_x - np.average(log_x, weights=weights)
    return Estimate(
        float((weights * centred * log_y).sum() / (weights * centred**2).sum()),
        float((weights * centred**2).sum() ** -0.5),
    )


def cosine(one: Vector, other: Vector) -> float:
    """Return the cosine of the angle between two vectors."""
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


# A small environment, and all that can happen in it.


@dataclass(frozen=True, kw_only=True)
class Room:
    """An environment without chance, in which reward comes with the end of an episode alone. It begins in state 0."""

    obs: Vector
    """What each state is to the policy, shape (states, obs_size)."""
    following: NDArray[np.int64]
    """The state after each action in each state, shape (states, actions)."""
    over: Vector
    """1 where the episode is over after it, else 0, same shape."""
    rewards: Vector
    """What ending at step T = 1 … H brings, shape (H,); an episode that is not over after H steps is cut, for 0."""


def explore(env: gymnasium.Env, spec: PolicySpec) -> Room:
    """Try every action in every state of a room of MiniGrid-Empty that can be reached."""
    env.reset(seed=0)
    grid: Any = env.unwrapped
    states: list[tuple[tuple[int, int], int]] = []
    obs: list[Vector] = []

    def number(image: object) -> int:
        state = (tuple(map(int, grid.agent_pos)), int(grid.agent_dir))
        if state not in states:
            states.append(state)
            obs.append(flatten_observation(image, spec))
        return states.index(state)

    number(grid.gen_obs())
    following, over = [], []
    for position, direction in states:  # grows on the way
        following.append([0] * spec.num_actions)
        over.append([0.0] * spec.num_actions)
        for action in range(spec.num_actions):
            grid.agent_pos, grid.agent_dir, grid.step_count = position, direction, 0
            image, _, terminated, _, _ = grid.step(action)
            over[-1][action] = float(terminated)
            following[-1][action] = 0 if terminated else number(image)
    rewards = []
    for length in range(1, grid.max_steps + 1):
        grid.step_count = length
        rewards.append(grid._reward())
    return Room(obs=np.array(obs), following=np.array(following), over=np.array(over), rewards=np.array(rewards))


class RoomEnv(gymnasium.Env):
    """Play in a room by looking up what was explored: the environment's own episodes, ten times as fast.

    Args:
        room: what was explored.
        env: whose spaces it has.
        spec: of the policy.
    """

    def __init__(self, room: Room, env: gymnasium.Env, spec: PolicySpec) -> None:
        self.observation_space, self.action_space = env.observation_space, env.action_space
        images = [obs.reshape(spec.obs_shape) / spec.observation_scale for obs in room.obs]
        self._images = [{spec.observation_key: image} if spec.observation_key else image for image in images]
        self._following, self._over = room.following.tolist(), (room.over > 0).tolist()
        self._rewards = room.rewards.tolist()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._state = self._steps = 0
        return self._images[0], {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take an action."""
        over = self._over[self._state][action]
        self._state = self._following[self._state][action]
        self._steps += 1
        reward = self._rewards[self._steps - 1] if over else 0.0
        return self._images[self._state], reward, over, self._steps == len(self._rewards), {}


class OverEpisodes(NamedTuple):
    """A number for every step of every kind of episode: those that end at step T, and those that are cut."""

    ending: Vector
    """Of step t of an episode that ends at step T, shape (H + 1, H), 0 where t ≥ T."""
    cut: Vector
    """Of step t of an episode that is cut, shape (H,)."""


def same_at_each_step(ending: Vector, cut: float) -> OverEpisodes:
    """Spread a number an episode, of those that end at T = 1 … H and of those that are cut, over its steps."""
    horizon = len(ending)
    steps = np.arange(horizon) < np.arange(horizon + 1)[:, None]
    return OverEpisodes(np.append(0.0, ending)[:, None] * steps, np.full(horizon, cut))


class Episodes:
    """All episodes of a policy in a room, with their probabilities.

    Args:
        room: where.
        pi: π(a|s), shape (states, actions).
    """

    def __init__(self, room: Room, pi: Vector) -> None:
        horizon = len(room.rewards)
        self._pi = pi
        # Of ending after exactly j more actions, or still going on then, where the first of them is given.
        self._ends, self._goes_on = np.zeros((2, horizon + 1, *pi.shape))
        self._ends[1], self._goes_on[1] = room.over, 1.0 - room.over
        for more in range(2, horizon + 1):
            self._ends[more] = self._goes_on[1] * (pi * self._ends[more - 1]).sum(axis=1)[room.following]
            self._goes_on[more] = self._goes_on[1] * (pi * self._goes_on[more - 1]).sum(axis=1)[room.following]
        # Of being in a state, and not over, before step t.
        self._alive = np.zeros((horizon, len(pi)))
        self._alive[0, 0] = 1.0
        move = np.zeros((len(pi), len(pi)))
        np.add.at(move, (np.arange(len(pi))[:, None], room.following), pi * self._goes_on[1])
        for step in range(1, horizon):
            self._alive[step] = self._alive[step - 1] @ move

    def expected(self, ending: Vector, cut: float) -> float:
        """Return the mean of a number: of episodes that end at T = 1 … H, shape (H,), and of those that are cut."""
        ends = (self._pi[0] * self._ends[1:, 0]).sum(axis=1)
        return float(ends @ ending + cut * (self._pi[0] @ self._goes_on[-1, 0]))

    def totals(self, numbers: OverEpisodes) -> Vector:
        """Return E Σ_t 1[s_t = s, a_t = a]·(number of step t), shape (states, actions)."""
        horizon = len(self._alive)
        step, more = np.arange(horizon)[:, None], np.arange(horizon + 1)
        end = step + more
        ahead = np.where(end <= horizon, numbers.ending[np.minimum(end, horizon), step], 0.0)
        inner = (ahead @ self._ends.reshape(horizon + 1, -1)).reshape(horizon, *self._pi.shape)
        inner += numbers.cut[:, None, None] * self._goes_on[:0:-1]
        return np.einsum("ts,tsa->sa", self._alive, inner) * self._pi


def action_probabilities(room: Room, theta: Vector, spec: PolicySpec) -> Vector:
    """Return π(a|s), shape (states, actions)."""
    return np.exp(log_softmax(mlp.forward(policy_layers(theta, spec), spec.activation, room.obs)[-1]))


def mean_reward(room: Room, theta: Vector, spec: PolicySpec) -> float:
    """Return E[R], exactly."""
    return Episodes(room, action_probabilities(room, theta, spec)).expected(room.rewards, 0.0)


class ExpectedGradient:
    """E of the ∂J/∂theta that one agent brings (Eq. 2), over all its episodes, exactly.

    Args:
        room: where it plays.
        spec: of the policy.
        config: which return, weights and regularisers; whole episodes.
        baseline: of the returns before.
    """

    def __init__(self, room: Room, spec: PolicySpec, config: Config, baseline: Baseline) -> None:
        self._room, self._spec, self._config = room, spec, config
        horizon = len(room.rewards)
        each = np.arange(1.0, horizon + 1.0) if config.time_reduction == "mean" else np.ones(horizon)
        self._weights = same_at_each_step(1.0 / each, 1.0 / each[-1])
        weighted = np.zeros((horizon + 1, horizon))
        for length, reward in enumerate(room.rewards, 1):
            weighted[length, :length] = self._advantages(reward, length, baseline) / each[length - 1]
        self._advantage = OverEpisodes(weighted, self._advantages(0.0, horizon, baseline) / each[-1])

    def _advantages(self, reward: float, length: int, baseline: Baseline) -> Vector:
        rewards, over = np.zeros(length), np.zeros(length, np.bool_)
        rewards[-1], over[-1] = reward, True
        returns = discounted_returns(rewards, over, self._config.gamma, baseline.expected)
        return advantages(returns, self._config, baseline)

    def __call__(self, theta: Vector) -> Vector:
        """Return it for one theta, shape (k,)."""
        episodes = Episodes(self._room, action_probabilities(self._room, theta, self._spec))
        weights = episodes.totals(self._weights)
        return score_gradient(self._room, theta, self._spec, self._config, weights, episodes.totals(self._advantage))


def settled(config: Config, update: int) -> Config:
    """Return a configuration that stays as it is at an update: a penalty that falls keeps its weight."""
    return replace(config, logit_penalty=config.logit_penalty_at(update), logit_penalty_half_life=None)


def score_gradient(
    room: Room, theta: Vector, spec: PolicySpec, config: Config, weights: Vector, weighted: Vector
) -> Vector:
    """Return Σ_{s,a} [weighted·∇log π(a|s) + weights·∇(regularisers of s)], by the package's own gradient."""
    states, actions = weights.shape
    batch = Batch(
        obs=np.repeat(room.obs, actions, axis=0),
        actions=np.tile(np.arange(actions), states),
        advantage=np.divide(weighted, weights, out=np.zeros_like(weights), where=weights > 0.0).ravel(),
        weight=weights.ravel(),
    )
    return policy_gradient(batch, policy_layers(theta, spec), spec, config, 0)[0]


def objective_gradient(
    room: Room, theta: Vector, spec: PolicySpec, config: Config, ending: Vector, cut: float
) -> Vector:
    """Return ∇_theta of the mean of a number that an episode has: E[number·Σ_t ∇log π(a_t|s_t)], shape (k,)."""
    episodes = Episodes(room, action_probabilities(room, theta, spec))
    weights = episodes.totals(same_at_each_step(np.ones_like(room.rewards), 1.0))
    weighted = episodes.totals(same_at_each_step(ending, cut))
    return score_gradient(
        room, theta, spec, replace(config, entropy_coefficient=0.0, logit_penalty=0.0), weights, weighted
    )


def penalty_gradient(room: Room, theta: Vector, spec: PolicySpec, config: Config) -> Vector:
    """Return ∇_theta of E[(1/|τ|) Σ_t ½·Σ_a (z_a − mean z)²] times its coefficient, by differences in the logits."""
    layers, horizon = policy_layers(theta, spec), len(room.rewards)
    outputs = mlp.forward(layers, spec.activation, room.obs)
    weights = same_at_each_step(1.0 / np.arange(1.0, horizon + 1.0), 1.0 / horizon)

    def value(logits: Vector) -> float:
        visits = Episodes(room, np.exp(log_softmax(logits))).totals(weights).sum(axis=1)
        return float(visits @ (0.5 * ((logits - logits.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)))

    d_logits = config.logit_penalty * differences(value, outputs[-1])
    return mlp.backward(layers, spec.activation, room.obs, outputs, d_logits)[0]


def differences(function: Callable[[Vector], float], at: Vector, step: float = 1e-5) -> Vector:
    """Return the gradient of a function by central differences, in the shape of ``at``."""
    gradient = np.empty(at.size)
    for index in range(at.size):
        move = np.zeros(at.size)
        move[index] = step
        above, below = function(at + move.reshape(at.shape)), function(at - move.reshape(at.shape))
        gradient[index] = (above - below) / (2.0 * step)
    return gradient.reshape(at.shape)


def curvature(gradient: Callable[[Vector], Vector], at: Vector, turns: int, step: float = 1e-4) -> float:
    """Return the largest |eigenvalue| of the gradient's derivative, from below, by so many turns of power iteration."""
    direction = np.random.default_rng(0).normal(size=at.size)
    length = 0.0
    for _ in range(turns):
        direction /= np.linalg.norm(direction)
        direction = (gradient(at + step * direction) - gradient(at - step * direction)) / (2.0 * step)
        length = float(np.linalg.norm(direction))
    return length
