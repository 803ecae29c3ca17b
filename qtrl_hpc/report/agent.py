"""The trained policy at play: evaluated, and as an animation."""

import io
from dataclasses import dataclass
from pathlib import Path

from qtrl_hpc.animation import Frame, gif, record_episodes
from qtrl_hpc.environment import check_fits, make_environment
from qtrl_hpc.evaluate import Evaluation, acting, evaluate
from qtrl_hpc.inference import Policy

MOST_FRAMES = 240
"""So that the page stays small."""


@dataclass(frozen=True)
class Animation:
    """Episodes as a GIF, and its first picture for those who want nothing that moves."""

    moving: bytes
    still: bytes
    episodes: int
    frames: int


def played(policy: Policy, env_id: str, source: Path, *, episodes: int, seed: int) -> Evaluation:
    """Return what the policy earns over some episodes.

    Raises:
        UserError: the environment cannot be made, or the policy does not fit it.
    """
    env = make_environment(env_id)
    try:
        check_fits(env, policy.spec, env_id, str(source))
        return evaluate(policy, env, source, env_id, episodes, seed, greedy=False)
    finally:
        env.close()


def animated(policy: Policy, env_id: str, *, episodes: int, seed: int) -> Animation:
    """Return the first episodes of an evaluation, drawn.

    Raises:
        UserError: the environment draws no pictures.
    """
    frames = record_episodes(
        acting(policy, greedy=False),
        env_id,
        seed=seed,
        episodes=range(episodes),
        most_steps=policy.spec.max_episode_steps,
        most_frames=MOST_FRAMES,
    )
    return Animation(gif(frames), _png(frames[0]), episodes, len(frames))


def _png(frame: Frame) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(frame).save(content, "PNG", optimize=True)
    return content.getvalue()
