"""Episodes as GIFs: the same that are evaluated, small, looping; and what cannot be drawn is refused in a line."""

import io
import json
import sys

import gymnasium
import numpy as np
import pytest
from PIL import Image
from support_policies import saved_policy

from qtrl_hpc import evaluate
from qtrl_hpc.animation import HELD, LINE, captioned, gif, record_episodes, write_gif
from qtrl_hpc.environment import make_environment
from qtrl_hpc.errors import UserError
from qtrl_hpc.play import play_episode

GRID, CART = "MiniGrid-Empty-5x5-v0", "CartPole-v1"


def right_then_down(obs, rng):
    """On an empty 5x5 grid, from the upper left facing right: two steps, a turn, two steps to the goal."""
    return right_then_down.plan.pop(0)


class Silent(gymnasium.Env):
    """An environment that draws nothing."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (4,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action):
        return np.zeros(4, np.float32), 1.0, True, False, {}


class Broken(Silent):
    """One that says that it draws, where what it needs for that is not installed."""

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def render(self):
        raise ImportError("no pen")


Broken.metadata = {"render_modes": ["rgb_array"], "render_fps": 4}
gymnasium.register("QtrlSilent-v0", Silent)
gymnasium.register("QtrlBroken-v0", Broken)


def test_an_episode_is_the_way_that_its_actions_make():
    right_then_down.plan = [2, 2, 1, 2, 2]
    played = play_episode(right_then_down, make_environment(GRID), 0, 0, most_steps=100)
    assert played == (pytest.approx(1 - 0.9 * 5 / 100), 5, None)


def test_a_recording_shows_every_step_and_holds_the_end():
    right_then_down.plan = [2, 2, 1, 2, 2]
    frames = record_episodes(right_then_down, GRID, seed=0, episodes=[0], most_steps=100)
    assert len(frames) == 6 + HELD
    assert {frame.shape for frame in frames} == {(320 + LINE, 320, 3)}
    assert all(np.array_equal(frames[5], held) for held in frames[6:])
    assert not any(np.array_equal(frames[step], frames[step + 1]) for step in range(5))
    # The agent's red triangle is in the upper left cell at first, in the lower right one at the end (cells of 64).
    for frame, (row, column) in ((frames[0], (1, 1)), (frames[5], (3, 3))):
        cell = frame[64 * row : 64 * row + 64, 64 * column : 64 * column + 64].astype(int)
        assert ((cell[..., 0] > 200) & (cell[..., 1] < 110)).sum() > 300


def test_long_episodes_share_the_frames_there_are():
    frames = record_episodes(lambda obs, rng: 0, GRID, seed=0, episodes=[0, 1], most_steps=100, most_frames=40)
    assert len(frames) == 40


def test_a_gif_loops_at_the_speed_asked_for(tmp_path):
    frames = [np.full((20, 30, 3), shade, np.uint8) for shade in (0, 100, 200)]
    assert write_gif(tmp_path / "x.gif", frames, fps=5.0) == (tmp_path / "x.gif").stat().st_size
    with Image.open(tmp_path / "x.gif") as image:
        assert (image.n_frames, image.size, image.info["loop"], image.info["duration"]) == (3, (30, 20), 0, 200)
    with Image.open(io.BytesIO(gif(frames))) as image:
        assert image.info["duration"] == 250  # 3 frames: not slower than 4 a second


def test_large_pictures_shrink_and_small_ones_grow_by_whole_factors():
    assert captioned(np.zeros((400, 600, 3), np.uint8), "x").shape == (213 + LINE, 320, 3)
    assert captioned(np.zeros((30, 100, 3), np.uint8), "x").shape == (90 + LINE, 300, 3)


@pytest.mark.parametrize(("env_id", "actions"), [(GRID, 3), (CART, 2)])
def test_evaluate_draws_the_episodes_and_earns_the_same(tmp_path, capsys, env_id, actions):
    policy = saved_policy(tmp_path / "policy.h5", env_id, actions, max_episode_steps=20)
    flags = [str(policy), "--episodes=5", "--json"]
    assert evaluate.main(flags) == 0
    plain = json.loads(capsys.readouterr().out)
    assert evaluate.main([*flags, f"--gif={tmp_path / 'x.gif'}", "--gif-episodes=2"]) == 0
    assert json.loads(capsys.readouterr().out) == plain
    with Image.open(tmp_path / "x.gif") as image:
        assert image.n_frames > 2
    assert (tmp_path / "x.gif").stat().st_size < 300_000
    assert evaluate.main([*flags, f"--gif={tmp_path / 'x.gif'}", "--video-every=2"]) == 0  # over the one before
    assert "3 episodes" in capsys.readouterr().err  # 0, 2 and 4


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--gif=x.png"], "--gif: got x.png, expected a name that ends in .gif"),
        (["--gif=missing/x.gif"], "whose folder does not exist"),
        (["--gif=mine.gif"], "--gif: got mine.gif, which exists"),
        (["--gif-episodes=2"], "--gif-episodes: got 2 without --gif"),
        (["--video-every=2"], "--video-every: got 2 without --gif"),
        (["--gif=x.gif", "--env-id=QtrlSilent-v0"], "QtrlSilent-v0: draws no pictures"),
        (["--gif=x.gif", "--env-id=QtrlBroken-v0"], "QtrlBroken-v0: cannot be drawn (ImportError: no pen)"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_line(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.gif").write_text("letters")
    saved_policy(tmp_path / "policy.h5", CART, 2)
    assert evaluate.main(["policy.h5", "--episodes=1", *flags]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert (tmp_path / "mine.gif").read_text() == "letters"
    assert not (tmp_path / "x.gif").exists()


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "imageio", None)
    assert evaluate.main([str(tmp_path / "policy.h5"), f"--gif={tmp_path / 'x.gif'}"]) == 2
    assert capsys.readouterr().err == "error: --gif: needs imageio, which is missing: pip install 'qtrl_hpc[report]'\n"


def test_pictures_of_another_kind_are_refused(monkeypatch):
    monkeypatch.setattr("gymnasium.wrappers.OrderEnforcing.render", lambda env: None)
    with pytest.raises(UserError, match="CartPole-v1: draws object of shape"):
        record_episodes(lambda obs, rng: 0, CART, seed=0, episodes=[0], most_steps=3)
