"""metrics.jsonl whole after a kill, and progress that a person can read."""

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios

import pytest

from qtrl_hpc import metrics
from qtrl_hpc.metrics import MetricsFile, ProgressDisplay, recent_reward, terminal


def write(path, *updates):
    path.write_text("".join(json.dumps({"update": update, "reward_mean": update / 10}) + "\n" for update in updates))


def rows(path):
    return [json.loads(line)["update"] for line in path.read_text().splitlines()]


def test_row_is_in_the_file_as_soon_as_it_is_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, keep_until=0)
    file.write({"update": 1, "reward_mean": 0.1 + 0.2})
    assert json.loads(path.read_text()) == {"update": 1, "reward_mean": 0.1 + 0.2}
    file.write({"update": 2, "reward_mean": 0.0})
    assert rows(path) == [1, 2]


@pytest.mark.parametrize(
    "tail", ["", '{"update": 5, "rew', '{"update": 5, "reward_mean": 0.5}', "[]\n", "5\n", "\n", "\0\0\0", "\xff\n"]
)
def test_rows_after_the_checkpoint_and_what_a_kill_cut_short_are_dropped(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 2, 3, 4)
    with path.open("a", encoding="latin-1") as file:
        file.write(tail)
    MetricsFile(path, keep_until=3).write({"update": 4})
    assert rows(path) == [1, 2, 3, 4]
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_a_whole_row_whose_end_of_line_is_missing_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 2, 3)
    path.write_text(path.read_text()[:-1])
    file = MetricsFile(path, keep_until=3)
    file.write({"update": 4, "reward_mean": 0.4})
    assert rows(path) == [1, 2, 3, 4]
    assert [row["update"] for row in file.rows()] == [1, 2, 3, 4]


def test_missing_file_is_begun(tmp_path):
    MetricsFile(tmp_path / "metrics.jsonl", keep_until=3).write({"update": 4})
    assert rows(tmp_path / "metrics.jsonl") == [4]


def test_recent_reward_is_the_mean_of_the_last_rows(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for _ in ("missing", "empty"):
        assert recent_reward(path, 2) == (None, 0)
        path.write_text("")
    write(path, 1, 2, 3, 4)
    assert recent_reward(path, 2) == (pytest.approx(0.35), 2)
    assert recent_reward(path, 100) == (pytest.approx(0.25), 4)


def test_recent_reward_is_over_the_episodes_that_ended(tmp_path):
    """3 episodes of 0.5 and one of 0.1: 0.4. In the last two updates none ended."""
    path = tmp_path / "metrics.jsonl"
    rows = [(0.9, 5), (0.5, 3), (None, 0), (0.1, 1), (None, 0), (None, 0)]
    lines = [{"update": i, "reward_mean": reward, "episodes": count} for i, (reward, count) in enumerate(rows, start=1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert recent_reward(path, 5) == (pytest.approx(0.4), 5)
    assert recent_reward(path, 2) == (None, 2)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [1000.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
    return now


def test_away_from_a_terminal_a_line_comes_every_few_seconds_and_at_the_end(clock, capsys, monkeypatch):
    """From update 10 of 110, two updates a second: a line at each 5 s, with the rate and the time left."""
    monkeypatch.setattr(metrics, "terminal", lambda: None)
    with ProgressDisplay(10, 110) as display:
        for update in range(11, 111):
            clock[0] += 0.5
            display.show(update, 1.0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0] == "update 20/110  reward 1.000  2.0 updates/s  0:00:45 left"
    assert lines[-1] == "update 110/110  reward 1.000  2.0 updates/s  0:00:00 left"


def test_reward_shown_follows_slowly(clock, capsys, monkeypatch):
    """0.95·1 + 0.05·0 after a reward of 0; the first reward is taken as it is."""
    monkeypatch.setattr(metrics, "terminal", lambda: None)
    with ProgressDisplay(0, 10_000) as display:
        for update, reward in ((1, 1.0), (2, 0.0)):
            clock[0] += 5.0
            display.show(update, reward)
    first, second = capsys.readouterr().out.splitlines()
    assert "reward 1.000" in first
    assert "reward 0.950" in second
    assert second.endswith("13:53:10 left")  # 9998 updates at 0.2 a second, rounded


def test_updates_in_which_no_episode_ended_leave_the_reward_as_it_is(clock, capsys, monkeypatch):
    monkeypatch.setattr(metrics, "terminal", lambda: None)
    with ProgressDisplay(0, 10_000) as display:
        for update, reward in enumerate((None, 1.0, None, 0.0), start=1):
            clock[0] += 5.0
            display.show(update, reward)
    shown = [line.split("  ")[1] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["reward -", "reward 1.000", "reward 1.000", "reward 0.950"]


@pytest.fixture
def screen():
    """A terminal of 100 columns: the end to write to, and what reads all that was written."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))

    def drawn():
        """What was written, which a pseudo-terminal hands over piece by piece, until nothing more comes."""
        pieces = []
        while select.select([master], [], [], 0.5)[0]:
            pieces.append(os.read(master, 65_536))
        return b"".join(pieces).decode()

    yield slave, drawn
    os.close(master)
    os.close(slave)


def test_on_a_terminal_there_is_a_bar_and_no_lines(clock, capsys, monkeypatch, screen):
    monkeypatch.setattr(metrics, "terminal", lambda: os.fdopen(os.dup(screen[0]), "w"))
    with ProgressDisplay(0, 4) as display:
        for update in range(1, 5):
            clock[0] += 6.0
            display.show(update, None if update == 1 else 0.5)
    drawn = screen[1]()
    assert "4/4" in drawn
    assert "reward 0.500" in drawn
    assert "update 1/4" not in drawn
    assert capsys.readouterr().out == ""


def test_terminal_has_its_cursor_back_when_training_fails(monkeypatch, screen):
    hide, show = "\x1b[?25l", "\x1b[?25h"
    monkeypatch.setattr(metrics, "terminal", lambda: os.fdopen(os.dup(screen[0]), "w"))
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(RuntimeError), ProgressDisplay(0, 4):
        raise RuntimeError
    drawn = screen[1]()
    assert drawn.rindex(show) > drawn.rindex(hide)


def test_without_a_launcher_its_own_output_counts(monkeypatch, screen):
    monkeypatch.setattr(metrics, "is_launched", lambda _: False)
    with os.fdopen(os.dup(screen[0]), "w") as own:
        monkeypatch.setattr(metrics.sys, "stdout", own)
        assert terminal() is own
    with open(os.devnull, "w") as own:
        monkeypatch.setattr(metrics.sys, "stdout", own)
        assert terminal() is None


@pytest.mark.parametrize("kind", ["terminal", "file", "pipe", "null"])
def test_under_a_launcher_its_output_counts(monkeypatch, screen, tmp_path, kind):
    """A process stands for mpirun; our own output is a terminal, as Open MPI makes it."""
    (tmp_path / "log").write_text("kept")
    log = (tmp_path / "log").open("a")
    output = {"terminal": screen[0], "file": log, "pipe": subprocess.PIPE, "null": subprocess.DEVNULL}[kind]
    launcher = subprocess.Popen(["sleep", "100"], stdout=output)
    monkeypatch.setattr(metrics, "is_launched", lambda _: True)
    monkeypatch.setattr(metrics.os, "getppid", lambda: launcher.pid)
    with launcher:
        found = terminal()
        launcher.kill()
    assert (found is not None) == (kind == "terminal")
    assert (tmp_path / "log").read_text() == "kept"
    if found:
        print("seen", file=found, flush=True)
        assert "seen" in screen[1]()


def test_launcher_on_another_machine_has_no_terminal_here(monkeypatch):
    monkeypatch.setattr(metrics, "is_launched", lambda _: True)
    monkeypatch.setattr(metrics.os, "getppid", lambda: 2**22 + 1)
    assert terminal() is None
