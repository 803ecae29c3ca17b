"""Who hangs, told by what ranks last wrote; and a process that does not come on ends."""

import subprocess
import sys
import textwrap
import time

import pytest

from qtrl_hpc.stopwatch import Stopwatch
from qtrl_hpc.watchdog import Sign, diagnose

NOW = 1000.0


def sign(rank, phase="waiting", since=60.0, written=0.5, host="n1"):
    return Sign(rank, phase, NOW - since, NOW - written, host, 100 + rank)


@pytest.mark.parametrize(
    ("signs", "ranks", "busy", "mute", "words"),
    [
        (
            [sign(0), sign(1, "episode", since=61.0), sign(2, "reduction")],
            [0, 1, 2],
            [1],
            [],
            "no progress: rank 1 is in episode since 61 s",
        ),
        (
            [sign(0), sign(1), sign(3, "gradient", since=70.0, written=66.0)],
            [0, 1, 3],
            [],
            [3],
            "no progress: rank 3 does not answer since 66 s (process 103 on n1, last in gradient)",
        ),
        ([sign(0), sign(2)], [0, 1, 2], [], [1], "no progress: rank 1 does not answer"),
        ([sign(0), sign(1)], [0, 1], [], [], "no progress: all 2 ranks wait for each other since 60 s"),
        (
            [sign(0, "start-up"), sign(1, written=40.0)],
            [0, 1],
            [0],
            [1],
            "no progress: rank 1 does not answer since 40 s (process 101 on n1, last in waiting), "
            "rank 0 is in start-up since 60 s",
        ),
    ],
)
def test_who_hangs_is_who_is_at_work_or_no_longer_writes(signs, ranks, busy, mute, words):
    found = diagnose(signs, ranks, NOW, silence=5.0)
    assert found.busy == busy
    assert found.words == words
    assert [rank for rank in ranks if rank not in found.answering] == mute
    assert len(found.mute) == len(mute)


@pytest.mark.parametrize(
    ("signs", "ranks", "spareable"),
    [
        ([sign(0), sign(1, written=60.0)], [0, 1], True),  # the lowest kills it
        ([sign(0), sign(1, written=60.0, host="n2")], [0, 1], False),  # it cannot be reached
        ([sign(0), sign(2)], [0, 1, 2], False),  # nobody knows its process
        ([sign(0), sign(1, "episode", host="n2")], [0, 1], True),  # it ends itself
        ([sign(0), sign(1)], [0, 1], False),  # all wait
    ],
)
def test_only_who_can_be_ended_alone_is(signs, ranks, spareable):
    assert diagnose(signs, ranks, NOW, silence=5.0).spareable == spareable


def test_stopwatch_tells_what_it_is_at():
    stopwatch = Stopwatch()
    assert stopwatch.position[0] == "start-up"
    with stopwatch("episode"):
        phase, since = stopwatch.position
        assert phase == "episode"
        time.sleep(0.01)
        stopwatch.count("circuits", 3)  # a job that was answered is progress
        assert stopwatch.position[0] == "episode"
        assert stopwatch.position[1] > since
    assert stopwatch.position[0] == "an update"


WATCHED = """
    import sys, time
    from pathlib import Path
    from qtrl_hpc.stopwatch import Stopwatch
    from qtrl_hpc.watchdog import Watchdog

    def never_ends():
        time.sleep(60)

    stopwatch = Stopwatch()
    with Watchdog(stopwatch, 0, {seconds}) as watchdog:
        watchdog.meet(Path(sys.argv[1]), [0])
        for _ in range({phases}):
            with stopwatch("episode"):
                time.sleep(0.2)
        with stopwatch("gradient"):
            {last}()
"""


def watched(tmp_path, **values):
    code = textwrap.dedent(WATCHED.format(**values))
    return subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=50)


def test_process_that_does_not_come_on_ends_and_shows_where_it_is(tmp_path):
    (tmp_path / "status.json").write_text('{"state": "running", "why": null, "update": 7}')
    done = watched(tmp_path, seconds=1.0, phases=1, last="never_ends")
    assert done.returncode == 1
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: no progress: rank 0 is in gradient since ")
    assert "in never_ends" in done.stderr
    status = (tmp_path / "status.json").read_text()
    assert '"failed"' in status
    assert "rank 0 is in gradient" in status
    assert '"update": 7' in status


def test_phases_that_follow_one_another_are_progress_however_long_it_takes(tmp_path):
    done = watched(tmp_path, seconds=1.5, phases=15, last="int")
    assert (done.returncode, done.stderr) == (0, "")


def test_no_timeout_no_watchdog(tmp_path):
    done = watched(tmp_path, seconds=None, phases=1, last="int")
    assert (done.returncode, done.stderr) == (0, "")
