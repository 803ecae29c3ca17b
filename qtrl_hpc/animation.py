"""Episodes as moving pictures: GIFs that loop (extra ``report``)."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import files
from qtrl_hpc.environment import make_environment
from qtrl_hpc.errors import UserError, one_line
from qtrl_hpc.extras import require
from qtrl_hpc.output_file import check_output
from qtrl_hpc.play import Act, play_episode
from qtrl_hpc.registry import naming

Frame = NDArray[np.uint8]

WIDTH = 320
"""Pixels: smaller pictures grow by a whole factor as far as it, larger ones shrink to it."""
LINE = 20
"""Pixels of the caption below the picture."""
HELD = 4
"""So many frames the end of an episode is shown."""
SECONDS, SLOWEST, QUICKEST = 8.0, 4.0, 30.0


def check_gif(path: Path, flag: str) -> None:
    """Refuse what could not be written in the end.

    Raises:
        UserError: ``path`` ends in something else than .gif, has no folder, or is there and no GIF; or the extra
            ``report`` is missing. It names the flag.
    """
    require(flag, "report", "imageio", "PIL")
    check_output(path, flag, ".gif")


def make_drawn_environment(env_id: str) -> gymnasium.Env[Any, Any]:
    """Make an environment that draws pictures and opens no window.

    Raises:
        UserError: there is none of that name, or it draws none.
    """
    if not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # or it greets on stdout, where --json stands alone
    plain = make_environment(env_id)
    modes = plain.metadata.get("render_modes") or []
    plain.close()
    if "rgb_array" not in modes:
        known = ", ".join(map(str, modes)) or "none"
        raise UserError(f"{env_id}: draws no pictures (render modes: {known}), expected the mode rgb_array")
    return make_environment(env_id, render_mode="rgb_array")


def check_drawn(env_id: str) -> None:
    """Refuse an environment that cannot be drawn, by drawing it once: what draws it may not be installed.

    Raises:
        UserError: there is none of that name, or it draws none, or no such pictures as are wanted.
    """
    env = make_drawn_environment(env_id)
    try:
        env.reset(seed=0)
        _drawn(env, env_id)
    finally:
        env.close()


def record_episodes(
    act: Act,
    env_id: str,
    *,
    seed: int,
    episodes: Sequence[int],
    most_steps: int,
    most_frames: int = 500,
    say: Callable[[int], None] | None = None,
) -> list[Frame]:
    """Play episodes, the same that ``play_episode`` plays without being watched, and draw them.

    Args:
        act: chooses the actions; needs nothing of torch.
        env_id: the environment's name.
        seed: of every random stream.
        episodes: their numbers.
        most_steps: after which an episode is cut.
        most_frames: of all episodes; of each an equal share is kept, from its beginning.
        say: is told of each episode that is done, by its number.

    Returns:
        RGB pictures with a caption below, each (height, width, 3); all of one size.

    Raises:
        UserError: the environment cannot be made, draws no pictures, or returns something else than it must.
    """
    env = make_drawn_environment(env_id)
    share = max(1, most_frames // max(1, len(episodes)) - HELD)
    frames: list[Frame] = []
    try:
        for episode in episodes:
            kept: list[Frame] = []

            def watch(step: int, reward: float, episode: int = episode, kept: list[Frame] = kept) -> None:
                kept.append(captioned(_drawn(env, env_id), f"episode {episode}   step {step}   reward {reward:.4g}"))

            with naming("env-id", env_id):
                play_episode(act, env, seed, episode, most_steps=min(most_steps, share - 1), watch=watch)
            frames += [*kept, *[kept[-1]] * HELD]
            if say:
                say(episode)
    finally:
        env.close()
    return frames


def captioned(picture: Frame, caption: str) -> Frame:
    """Return a picture of about ``WIDTH`` pixels with a line of text below."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = picture.shape[:2]
    factor = WIDTH // width if width <= WIDTH else WIDTH / width
    size = (round(width * factor), round(height * factor))
    resampling = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS
    canvas = Image.new("RGB", (size[0], size[1] + LINE), "white")
    canvas.paste(Image.fromarray(picture).resize(size, resampling), (0, 0))
    pen = ImageDraw.Draw(canvas)
    pen.text((6, size[1] + 3), caption, fill="black", font=ImageFont.load_default(12))
    return np.asarray(canvas)


def gif(frames: Iterable[Frame], *, fps: float | None = None) -> bytes:
    """Return a GIF that loops.

    Args:
        frames: RGB pictures of one size, (height, width, 3) each.
        fps: frames a second; None: so that it takes about eight seconds, from 4 to 30.
    """
    from imageio.v3 import imwrite

    stack = np.stack(list(frames))
    rate = float(np.clip(len(stack) / SECONDS, SLOWEST, QUICKEST)) if fps is None else fps
    content = imwrite("<bytes>", stack, extension=".gif", plugin="pillow", duration=1000.0 / rate, loop=0)
    return bytes(content)


def write_gif(path: Path, frames: Iterable[Frame], *, fps: float | None = None) -> int:
    """Write a GIF that loops, whole or not at all (see ``gif``), and return its bytes."""
    content = gif(frames, fps=fps)
    files.replace(path, content)
    return len(content)


def _drawn(env: gymnasium.Env[Any, Any], env_id: str) -> Frame:
    """Return what an environment shows now, (height, width, 3)."""
    try:
        picture = np.asarray(env.render())
    except Exception as error:  # an environment's own code may raise anything
        raise UserError(f"{env_id}: cannot be drawn ({type(error).__name__}: {one_line(error)})") from error
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise UserError(f"{env_id}: draws {picture.dtype} of shape {picture.shape}, expected uint8 (height, width, 3)")
    return picture
