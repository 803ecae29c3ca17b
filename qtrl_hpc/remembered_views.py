"""MiniGrid's observations, computed once for each place in a grid: nine tenths of a step's time otherwise."""

from typing import Any, cast

import gymnasium

LAST_MOVE = 2
"""0, 1 and 2, turn left, turn right, forward, change the agent's place alone; other actions may change the grid."""


def can_remember(env: gymnasium.Env) -> bool:
    """Return whether an environment's view hangs on grid, place, direction and what is carried alone.

    So it is with MiniGrid's own classes that leave ``MiniGridEnv``'s step and view as they are.
    """
    from minigrid.minigrid_env import MiniGridEnv

    inner = type(env.unwrapped)
    own = all(getattr(inner, name, None) is getattr(MiniGridEnv, name) for name in ("step", "gen_obs", "gen_obs_grid"))
    return own and inner.__module__.startswith("minigrid.")


class RememberedViews(gymnasium.Wrapper):
    """Play a MiniGrid environment, its views taken from memory where the agent has stood before.

    What is returned is the same in every bit. Memory holds the views of one grid: four directions a cell at most.

    Args:
        env: for which ``can_remember`` holds.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._inner = cast(Any, env.unwrapped)
        self._compute = self._inner.gen_obs
        self._inner.gen_obs = self._view
        self._images: dict[tuple[int, ...], Any] = {}
        self._contents: tuple[Any, ...] = ()
        self._changed = True

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, whose grid may be another."""
        self._changed = True
        return self.env.reset(**options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make one step."""
        if action > LAST_MOVE:
            self._changed = True
        return self.env.step(action)

    def _view(self) -> dict[str, Any]:
        """Take the place of ``MiniGridEnv.gen_obs``."""
        inner = self._inner
        if self._changed:
            carried = inner.carrying and inner.carrying.encode()
            contents = (inner.grid.encode().tobytes(), inner.grid.width, carried)
            if contents != self._contents:
                self._images, self._contents = {}, contents
            self._changed = False
        place = (*inner.agent_pos, inner.agent_dir)
        image = self._images.get(place)
        if image is None:
            image = self._images[place] = self._compute()["image"]
        return {"image": image.copy(), "direction": inner.agent_dir, "mission": inner.mission}
