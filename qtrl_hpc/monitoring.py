"""The policy of a moment, looked at while it is trained: evaluations and animations."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.agents import make_network
from qtrl_hpc.animation import check_drawn, gif, record_episodes
from qtrl_hpc.config import Config
from qtrl_hpc.environment import make_environment
from qtrl_hpc.evaluation import outcome
from qtrl_hpc.extras import require
from qtrl_hpc.play import Act, play_episode
from qtrl_hpc.policy import PolicySpec, flatten_observation
from qtrl_hpc.registry import naming


class Sight(NamedTuple):
    """What was seen of the policy after an update."""

    update: int
    evaluation: dict[str, Any] | None
    """An object of ``evaluations.jsonl``; None where it was not the time for one."""
    gif: bytes | None
    """One episode."""


class Monitor:
    """Look at a policy every so many updates.

    Its episodes have random streams and an environment of their own, so that what is trained does not depend on it.
    They are the same ones each time, and those that ``qtrl_hpc.evaluate`` plays with the run's seed.

    Args:
        config: of the run.
        spec: of the policy.
        at: is told what is being done, for who watches whether it goes on.

    Raises:
        UserError: the environment draws no pictures, or what draws them is missing.
    """

    def __init__(self, config: Config, spec: PolicySpec, at: Callable[[str], None]) -> None:
        self._config, self._spec, self._at = config, spec, at
        self._network = make_network(spec, config.threads)
        self._env: gymnasium.Env[Any, Any] | None = None
        if config.video_every is not None:
            require("--video-every", "report", "imageio", "PIL")
            check_drawn(config.env_id)

    def is_due(self, update: int) -> bool:
        """Return whether there is anything to look at after an update."""
        return self._is_time(self._config.evaluate_every, update) or self._is_time(self._config.video_every, update)

    def look(self, theta: NDArray[np.float64], update: int) -> Sight:
        """Play the policy with the weights ``theta``, shape (k,), and return what is due after an update."""
        act = self._sampling(theta)
        evaluates, draws = (
            self._is_time(every, update) for every in (self._config.evaluate_every, self._config.video_every)
        )
        return Sight(update, self._evaluate(act, update) if evaluates else None, self._draw(act) if draws else None)

    @staticmethod
    def _is_time(every: int | None, update: int) -> bool:
        return every is not None and update > 0 and update % every == 0

    def _sampling(self, theta: NDArray[np.float64]) -> Act:
        """Return what draws actions as agents in training do."""
        actor = self._network.actor(theta)
        return lambda obs, rng: actor(flatten_observation(obs, self._spec), rng.random())

    def _evaluate(self, act: Act, update: int) -> dict[str, Any]:
        start, config = time.perf_counter(), self._config
        if self._env is None:
            self._env = make_environment(config.env_id)
        played = []
        for episode in range(config.evaluate_episodes):
            self._at("an evaluation")
            with naming("env-id", config.env_id):
                played.append(
                    play_episode(act, self._env, config.seed, episode, most_steps=self._spec.max_episode_steps)
                )
        found = outcome(played, self._env, config.seed)
        return {
            "update": update,
            "episodes": len(played),
            "reward_mean": found.reward_mean,
            "reward_low": found.reward_low,
            "reward_high": found.reward_high,
            "success_rate": found.success_rate,
            "episode_length_mean": found.episode_length_mean,
            "seconds": time.perf_counter() - start,
        }

    def _draw(self, act: Act) -> bytes:
        config = self._config
        self._at("an animation")
        frames = record_episodes(
            act, config.env_id, seed=config.seed, episodes=[0], most_steps=self._spec.max_episode_steps
        )
        self._at("an animation")
        return gif(frames)


def make_monitor(config: Config, spec: PolicySpec, at: Callable[[str], None]) -> Monitor | None:
    """Return what looks at the policy; None where the configuration asks for nothing of it. See ``Monitor``."""
    asked = config.evaluate_every is not None or config.video_every is not None
    return Monitor(config, spec, at) if asked else None
