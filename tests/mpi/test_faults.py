"""One rank's fault is everybody's end: said once, at once, and nothing saved is lost."""

import re
import sys
import time

import pytest
from support import QUICK, Job, contents, start, train, updates_done

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
