"""Files of a run that cannot be written: named in one line, and told in status.json where there is any way.

Files that may not grow stand for a full disk where a test chooses which file it is; a small disk that is full is tried
where it may be mounted.
"""

import json
import os
import resource
from contextlib import contextmanager

import pytest
from soak.faults import fill, small_disk
from support import QUICK, contents, train_here, updates_done

from qtrl_hpc import api, files
from qtrl_hpc.cli import parse_train
from qtrl_hpc.errors import UserError, WriteError
from qtrl_hpc.metrics import MetricsFile
from qtrl_hpc.status import STATUS, Status, say_failed

TOO_LARGE = "cannot be written (File too large)"


@contextmanager
def no_file_larger(size):
    """Let this process write no file beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as folder:
        if folder is None:
            pytest.skip("no right to mount")
        yield folder


# --- files


def test_file_that_cannot_be_replaced_is_named_and_left_as_it_was(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with no_file_larger(1000), pytest.raises(WriteError) as caught:
        files.replace(path, bytes(2000))
    assert str(caught.value) == f"{path}: {TOO_LARGE}"
    assert isinstance(caught.value, OSError)
    assert (caught.value.filename, caught.value.strerror) == (str(path), "File too large")
    assert contents(tmp_path) == {path.relative_to(tmp_path): b"before"}
    with pytest.raises(
        WriteError, match=rf"^{tmp_path}/nowhere/file: cannot be written \(No such file or directory\)$"
    ):
        files.replace(tmp_path / "nowhere/file", b"")


def test_written_over_in_the_room_that_there_is(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    inode = path.stat().st_ino
    files.overwrite(path, b"abc")
    assert path.read_bytes() == b"abc       "
    files.overwrite(path, b"x" * 4096)
    assert path.read_bytes() == b"x" * 4096
    assert path.stat().st_ino == inode
    with pytest.raises(OSError, match="No space left"):
        files.overwrite(path, b"y" * 4097)
    assert path.read_bytes() == b"x" * 4096
    with pytest.raises(FileNotFoundError):
        files.overwrite(tmp_path / "nowhere", b"")
    assert os.listdir(tmp_path) == ["file"]


def test_metrics_that_cannot_be_written_are_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, keep_until=0)
    path.symlink_to("/dev/full")
    with pytest.raises(WriteError) as caught:
        metrics.write({"update": 1})
    assert str(caught.value) == f"{path}: cannot be written (No space left on device)"


# --- status.json on a full disk


def state(folder):
    found = json.loads((folder / STATUS).read_text())
    return found["state"], found["why"]


def test_status_is_written_on_a_full_disk_too(disk):
    status = Status(disk, updates=50, agents=4)
    status.write("running")
    fill(disk / "ballast")
    with pytest.raises(WriteError):
        files.replace(disk / "other", b"something")
    long = "rank 0: " + 300 * "why "
    for step, expected in (
        (lambda: say_failed(disk, long), ("failed", long)),
        (lambda: status.write("running"), ("running", None)),
        (lambda: status.write("done"), ("done", None)),
    ):
        step()
        assert state(disk) == expected
    (disk / "ballast").unlink()
    status.write("stopped", "why")
    assert state(disk) == ("stopped", "why")
    assert (disk / STATUS).read_text().endswith("}\n"), "whole anew, without blanks"


def test_status_that_cannot_be_written_at_all_is_named(disk):
    fill(disk / "ballast")
    with pytest.raises(WriteError) as caught:
        Status(disk, updates=50, agents=4).write("running")
    assert str(caught.value) == f"{disk / STATUS}: cannot be written (No space left on device)"
    say_failed(disk, "why")
    assert os.listdir(disk) == ["ballast"]


# --- runs

ROOMY = 70_000
PAD = json.dumps({"update": 0, "pad": "x" * (ROOMY - 1000)}) + "\n"
BLOCKED = {
    "metrics.jsonl": ["--trackers=[]"],
    "evaluations.jsonl": ["--trackers=[]", "--evaluate-every=1", "--evaluate-episodes=1"],
    "checkpoint-0000000000.h5": ["--policy-hidden-sizes=[3000]"],
    "events.out.tfevents": ["--checkpoint-every=3"],
}


@pytest.mark.parametrize("name", BLOCKED)
def test_file_of_a_run_that_cannot_be_written_ends_it_by_name(tmp_path, name):
    run_dir = tmp_path / "run"
    if name == "evaluations.jsonl":
        run_dir.mkdir()
        (run_dir / name).write_text(PAD)  # all but full
    flags = [*QUICK, "--updates=1000", "--checkpoint-every=1000", *BLOCKED[name]]
    with no_file_larger(ROOMY), pytest.raises(WriteError) as caught:
        train_here(run_dir, *flags)
    told, *what_to_do = str(caught.value).split("; ")
    resumable = (run_dir / "checkpoint.h5").exists()
    assert resumable == (not name.startswith("checkpoint-"))
    assert what_to_do == (["once it can, --resume goes on from the newest checkpoint"] if resumable else [])
    assert name in told
    assert told.endswith(f": {TOO_LARGE}")
    assert state(run_dir) == ("failed", f"rank 0: {told}")
    assert [each.name for each in run_dir.rglob("*.tmp")] == []


def test_run_goes_on_when_there_is_room_again(tmp_path):
    run_dir, flags = tmp_path / "run", [*QUICK, "--updates=500", "--checkpoint-every=20", "--trackers=[]"]
    config = parse_train(flags).config
    with no_file_larger(ROOMY), pytest.raises(WriteError):
        api.train(config, run_dir=run_dir)
    done = updates_done(run_dir)
    assert 20 < done < 500
    with no_file_larger(1000), pytest.raises(UserError) as caught:
        api.train(config, run_dir=run_dir, resume=True)
    assert str(caught.value) == f"{run_dir / 'metrics.jsonl'}: {TOO_LARGE}"
    assert state(run_dir)[0] == "failed", "a start that is refused leaves it alone"
    assert api.train(config, run_dir=run_dir, resume=True).done
    assert updates_done(run_dir) == 500
