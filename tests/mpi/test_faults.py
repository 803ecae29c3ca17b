"""One rank's fault is everybody's end: said once, at once, and nothing saved is lost."""

import json
import re
import signal
import sys
import time

import pytest
from soak.faults import fill, small_disk
from support import QUICK, TRAIN, Job, contents, start, train, updates_done

from qtrl_hpc.checkpoint import Checkpoint

pytestmark = pytest.mark.mpi

FAULTY = [*QUICK, "--env-id=faulty:Faulty-v0", "--updates=1000", "--checkpoint-every=2"]


def test_exception_on_one_rank_ends_the_whole_job_within_seconds(tmp_path):
    run_dir = tmp_path / "run"
    job = start(run_dir, *FAULTY, ranks=4, environ={"QTRL_TEST_FAULT": "raise 1 6"})
    job.wait_until(lambda: "the pole broke" in job.err, "the fault")
    told = time.monotonic()
    code = job.wait()
    assert time.monotonic() - told < 5.0
    assert code not in (0, 2, 75)
    assert job.processes() == []
    assert job.err.count("Traceback (most recent call last)") == 1
    assert job.err.count("rank 1 of 4 failed:") == 1
    assert job.err.count("RuntimeError: the pole broke") == 1
    assert Checkpoint.load(run_dir / "checkpoint.h5").state.update == 4
    assert updates_done(run_dir) == 5


def test_reward_that_is_not_finite_stops_the_run_before_it_does_harm(tmp_path):
    run_dir = tmp_path / "run"
    job = train(run_dir, *FAULTY, ranks=2, code=1, environ={"QTRL_TEST_FAULT": "nan 1 6"})
    [error] = job.errors
    assert "update 6" in error
    assert "rank 1 " in error
    assert "rank 0" not in error
    assert "finite" in error
    assert "Traceback" not in job.err
    saved = Checkpoint.load(run_dir / "checkpoint.h5")
    assert saved.state.update == 4
    assert updates_done(run_dir) == 5
    train(run_dir, "--resume", "--updates=8", ranks=2)


def failure(run_dir):
    status = json.loads((run_dir / "status.json").read_text())
    return status["state"], status["why"]


@pytest.mark.parametrize("what", ["shape", "nothing", "text"])
def test_environment_that_returns_something_else_on_one_rank_ends_all_in_one_line(tmp_path, what):
    run_dir = tmp_path / "run"
    job = train(run_dir, *FAULTY, ranks=3, code=2, environ={"QTRL_TEST_FAULT": f"{what} 1 6"})
    [error] = job.errors
    step = (
        r"step to return \(observation, .*\), the reward a number, got a tuple of 5: \(float32 of \(4,\), a str, .*\)"
    )
    expected = {
        "shape": r"observations of shape \(4,\), got float64 of \(3,\)",
        "nothing": r"observations of shape \(4,\), got None",
        "text": step,
    }[what]
    assert re.fullmatch(rf"error: --env-id: got 'faulty:Faulty-v0', expected {expected} \(rank 1\)", error)
    assert "Traceback" not in job.err
    assert job.processes() == []
    assert failure(run_dir) == ("failed", f"rank 1: {error.removeprefix('error: ').removesuffix(' (rank 1)')}")
    assert updates_done(run_dir) == 5
    train(run_dir, "--resume", "--updates=8", ranks=3)


def test_mapping_that_returns_something_else_on_every_rank_is_told_once(tmp_path):
    run_dir = tmp_path / "run"
    flags = [*QUICK, "--mapping=support_own:LateForward", "--updates=1000", "--checkpoint-every=2"]
    job = train(run_dir, *flags, ranks=2, code=2)
    [error] = job.errors
    got = "got float64 of (57,)"
    why = f"--mapping: got 'support_own:LateForward', expected forward to return float64 of shape (58,), {got}"
    assert error == f"error: {why} (rank 0)"
    assert "Traceback" not in job.err
    assert job.processes() == []
    assert failure(run_dir) in [("failed", f"rank {rank}: {why}") for rank in (0, 1)]
    assert updates_done(run_dir) > 2


def test_environment_that_returns_something_else_at_its_first_step_is_refused_on_every_rank(tmp_path):
    run_dir = tmp_path / "run"
    flags = [*QUICK, "--env-id=support_own:FourValues", "--updates=10"]
    job = train(run_dir, *flags, ranks=3, code=2)
    [error] = job.errors
    assert error.startswith("error: --env-id: got 'support_own:FourValues', expected step to return (observation, ")
    assert error.endswith("got a tuple of 4: (float32 of (2,), a float, a bool, a dict)")
    assert "Traceback" not in job.err
    assert "MPI_ABORT" not in job.err
    assert not run_dir.exists()


def test_start_on_a_full_disk_is_refused_on_every_rank_and_goes_on_when_there_is_room(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        if disk is None:
            pytest.skip("no right to mount")
        run_dir = disk / "run"
        flags = [*QUICK, "--updates=50", "--checkpoint-every=10", f"--run-dir={run_dir}"]
        fill(disk / "ballast")
        job = Job([*TRAIN, *flags], tmp_path, ranks=2)
        assert job.wait() == 2
        full = f"error: {run_dir / 'config.yaml'}: cannot be written (No space left on device)"
        assert job.errors == [full]
        (disk / "ballast").unlink()
        job = Job([*TRAIN, *flags], tmp_path, ranks=2)
        job.wait_until(lambda: updates_done(run_dir) > 12, "some updates")
        job.send(signal.SIGUSR1, 0)
        assert job.wait() in (0, 75)
        fill(disk / "ballast")
        before = contents(run_dir)
        job = Job([*TRAIN, *flags, "--resume", "--updates=60"], tmp_path, ranks=2)
        assert job.wait() == 2
        assert job.errors == [full]
        assert "Traceback" not in job.err
        assert "MPI_ABORT" not in job.err
        assert contents(run_dir) == before
        (disk / "ballast").unlink()
        job = Job([*TRAIN, *flags, "--resume", "--updates=60"], tmp_path, ranks=2)
        assert job.wait() == 0
        assert updates_done(run_dir) == 60


def test_checkpoint_for_which_there_is_no_room_is_named_and_its_half_removed(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        if disk is None:
            pytest.skip("no right to mount")
        run_dir = disk / "run"
        flags = [*QUICK, "--policy-hidden-sizes=[3000]", "--trackers=[]", "--updates=100000", "--checkpoint-every=50"]
        job = Job([*TRAIN, *flags, f"--run-dir={run_dir}"], tmp_path, ranks=2)
        job.wait_until(lambda: updates_done(run_dir) > 52, "some updates")
        fill(
            disk / "ballast", leave=100_000
        )  # the metrics of 50 updates take 30 kB, a checkpoint of 21002 weights more
        assert job.wait() == 1
        [error] = job.errors
        name = re.search(r"checkpoint-\d{10}\.h5", error)[0]
        words = f"{run_dir / name}: cannot be written (No space left on device)"
        assert error == f"error: {words}; once it can, --resume goes on from the newest checkpoint (rank 0)"
        assert "Traceback" not in job.err
        assert failure(run_dir) == ("failed", f"rank 0: {words}")
        assert not (run_dir / name).exists()
        assert not list(run_dir.glob(".checkpoint*"))


def test_replicas_that_drift_apart_are_noticed_at_the_next_checkpoint(tmp_path):
    run_dir = tmp_path / "run"
    job = train(run_dir, *FAULTY, ranks=2, code=1, environ={"QTRL_TEST_FAULT": "drift 1 5"})
    [error] = job.errors
    assert "after update 6" in error
    assert "differs between rank 0 and rank 1" in error
    assert Checkpoint.load(run_dir / "checkpoint.h5").state.update == 4


def test_bad_input_is_one_line_and_exit_code_2_on_every_rank(tmp_path):
    run_dir = tmp_path / "run"
    for flags, word in (
        (["--bogus=1"], "--bogus"),
        ([*QUICK, "--num-actions=9"], "--num-actions: got 9"),
        ([*QUICK, "--qpu=aer", "--device=cuda"], "--device: got 'cuda'"),
    ):
        job = train(run_dir, *flags, ranks=4, code=2)
        [error] = job.errors
        assert word in error
        assert job.out.strip() == ""
        assert "Traceback" not in job.err
        assert "MPI_ABORT" not in job.err
        assert not run_dir.exists()


def test_directory_that_holds_a_run_is_refused_on_every_rank(tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "metrics.jsonl").write_text('{"update": 1}\n')
    before = contents(run_dir)
    [error] = train(run_dir, *QUICK, ranks=2, code=2).errors
    assert f"--run-dir: got {run_dir}, which holds a run" in error
    assert contents(run_dir) == before


def test_environment_that_one_rank_lacks_is_refused_on_every_rank(tmp_path):
    run_dir = tmp_path / "run"
    job = train(run_dir, *QUICK, "--env-id=faulty:OnlyOnRank0-v0", ranks=2, code=2)
    [error] = job.errors
    assert "--env-id: got 'faulty:OnlyOnRank0-v0'" in error
    assert "MPI_ABORT" not in job.err
    assert not run_dir.exists()


@pytest.mark.parametrize(("rank", "lines"), [(0, 1), (5, 0)])
def test_launcher_of_another_mpi_is_refused_once(tmp_path, rank, lines):
    """What each of eight processes sees when mpirun and mpi4py are of different MPIs: it is alone."""
    run_dir = tmp_path / "run"
    environ = {"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": str(rank)}
    job = train(run_dir, *QUICK, code=2, environ=environ)
    assert len(job.err.splitlines()) == len(job.errors) == lines
    assert all(re.search("started 8 processes .* sees 1: .*reinstall mpi4py", line) for line in job.errors)
    assert not run_dir.exists()


def test_rank_that_does_not_come_to_the_end_is_not_waited_for_for_ever(tmp_path):
    job = Job([sys.executable, "-m", "lingering"], tmp_path, ranks=2)
    assert job.wait() == 1
    assert job.processes() == []
    assert job.errors == ["error: rank 0 waited 2 s at the end for the others: one hangs"]
