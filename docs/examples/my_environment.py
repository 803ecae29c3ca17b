# my_environment.py
"""An environment of your own: a corridor whose exit is at the right end."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

LENGTH = 6
MOST_STEPS = 30


class Corridor(gymnasium.Env[NDArray[np.float32], int]):
    """Walk left (0) or right (1) from a random place; each step costs, and reaching the right end ends the episode."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (LENGTH,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)  # type: ignore[assignment]  # of int64, not int

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode. All that is random comes from ``self.np_random``, which the seed decides."""
        super().reset(seed=seed)
        self._place, self._steps = int(self.np_random.integers(LENGTH - 1)), 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Walk one step; return observation, reward, whether the exit is reached, whether time is up, and nothing."""
        self._place = min(max(self._place + (1 if action == 1 else -1), 0), LENGTH - 1)
        self._steps += 1
        at_exit = self._place == LENGTH - 1
        return self._observation(), 1.0 if at_exit else -0.05, at_exit, self._steps >= MOST_STEPS, {}

    def _observation(self) -> NDArray[np.float32]:
        observation = np.zeros(LENGTH, np.float32)
        observation[self._place] = 1.0
        return observation
