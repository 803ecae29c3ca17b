"""An episode outside of training: the same one for the same seed and number, whoever plays it, watched or not."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from qtrl_hpc.environment import RESET, STEP, Purpose, misreturned, reset_seed, seed_sequence

Act = Callable[[Any, np.random.Generator], int]
"""From what is observed to an action, drawn by the generator or not: ``policy.sample``, say."""

Watch = Callable[[int, float], None]
"""Is told the number of steps so far and the sum of their rewards, after the reset and after each step."""


class Played(NamedTuple):
    """What an episode came to."""

    reward: float
    """Undiscounted sum."""
    length: int
    """Steps."""
    is_success: bool | None
    """The environment's own word; None where it tells nothing."""


def play_episode(
    act: Act, env: gymnasium.Env[Any, Any], seed: int, episode: int, *, most_steps: int, watch: Watch | None = None
) -> Played:
    """Play one episode, to its end or to ``most_steps``.

    Args:
        act: chooses the actions.
        env: to play in.
        seed: of every random stream.
        episode: its number, which with the seed decides it.
        most_steps: after which it is cut.
        watch: is told of each step.

    Raises:
        ReturnedError: the environment returns something else than it must.
    """
    rng = np.random.default_rng(seed_sequence(seed, Purpose.EVALUATION_ACTIONS, 0, episode))
    found: Any = env.reset(seed=reset_seed(seed_sequence(seed, Purpose.EVALUATION_ENVIRONMENT, 0, episode)))
    if not isinstance(found, tuple) or len(found) != 2:
        raise misreturned("reset", RESET, found)
    obs, _ = found
    total, length, over = 0.0, 0, False
    info: dict[str, Any] = {}
    if watch:
        watch(0, 0.0)
    while not over and length < most_steps:
        found = env.step(act(obs, rng))
        try:
            obs, reward, terminated, truncated, info = found
            total, length, over = total + float(reward), length + 1, bool(terminated or truncated)
        except (TypeError, ValueError):
            raise misreturned("step", STEP, found) from None
        if watch:
            watch(length, total)
    return Played(total, length, info.get("is_success"))
