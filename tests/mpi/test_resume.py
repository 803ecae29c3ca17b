"""A run that is stopped and taken up again is, bit for bit, one that was not; and how signals stop it."""

import signal

import pytest
from support import QUICK, contents, damage, metrics, result, start, train, updates_done

from qtrl_hpc.checkpoint import Checkpoint

pytestmark = pytest.mark.mpi

FLAGS = [*QUICK, "--checkpoint-every=30"]


def stop(job, run_dir, number, rank):
    """Send a signal to one rank once it has made some updates; return the update that it stopped after."""
    before = updates_done(run_dir)
    job.wait_until(lambda: updates_done(run_dir) > before + 2, "some updates")
    job.send(number, rank)
    assert job.wait() == 75, job.err
    assert job.errors == []
    update = Checkpoint.load(run_dir / "checkpoint.h5").state.update
    assert [row["update"] for row in metrics(run_dir)] == list(range(1, update + 1))
    assert f"stopped after {update} of" in job.out
    assert f"--run-dir {run_dir} --resume" in job.out
    return update


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_200_updates_are_100_then_a_stop_then_100(tmp_path, ranks):
    """In one chain: 100 asked for and made, more asked for and stopped on the way, taken up and made."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(parts, *FLAGS, "--updates=100", ranks=ranks)
    update = stop(start(parts, "--updates=100000", "--resume", ranks=ranks), parts, signal.SIGTERM, ranks - 1)
    total = max(200, update + 20)  # a signal may come late on a busy machine
    job = train(parts, "--resume", f"--updates={total}", ranks=ranks)
    assert f"from update {update} to {total}" in job.out
    train(whole, *FLAGS, f"--updates={total}", ranks=ranks)
    assert result(parts) == result(whole)
    assert Checkpoint.load(parts / "checkpoint.h5").world_size == ranks


def test_each_signal_on_each_rank_stops_the_run_with_a_checkpoint(tmp_path):
    """Six stops one after another, then to the end: still the bits of a run that was never stopped."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags, resume = [*FLAGS, "--updates=4000", "--reduction=ordered"], []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        for rank in (0, 1):
            update = stop(start(parts, *flags, *resume, ranks=2), parts, number, rank)
            resume = ["--resume"]
    train(parts, "--resume", f"--updates={update + 5}", ranks=2)
    train(whole, *flags, f"--updates={update + 5}", "--agents-per-rank=2")
    assert result(parts) == result(whole)


def test_run_may_go_on_with_other_ranks_if_the_agents_are_as_many(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = [*QUICK, "--reduction=ordered", "--agents-per-rank=4"]
    train(whole, *flags, "--updates=12")
    train(parts, *flags, "--updates=6")
    assert "agents" in train(parts, "--resume", "--updates=12", ranks=2, code=2).errors[0]
    train(parts, "--resume", "--updates=12", "--agents-per-rank=2", ranks=2)
    assert result(parts) == result(whole)


def test_run_in_steps_is_stopped_in_the_middle_of_episodes_and_goes_on_with_other_ranks(tmp_path):
    """Eight agents on 8, 2 and 4 ranks and on one, each taking over where the one before was stopped."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = [*QUICK, "--reduction=ordered", "--steps-per-update=7", "--checkpoint-every=30", "--updates=100000"]
    resume = []
    for ranks, number in ((8, signal.SIGTERM), (2, signal.SIGUSR1), (4, signal.SIGINT)):
        job = start(parts, *flags, f"--agents-per-rank={8 // ranks}", *resume, ranks=ranks)
        update = stop(job, parts, number, ranks - 1)
        assert (Checkpoint.load(parts / "checkpoint.h5").running.length > 0).any()
        resume = ["--resume"]
    train(parts, "--resume", "--agents-per-rank=8", f"--updates={update + 9}")
    train(whole, *flags, "--agents-per-rank=8", f"--updates={update + 9}")
    assert result(parts) == result(whole)


def test_environment_that_plays_otherwise_on_one_rank_is_refused_on_all(tmp_path):
    run_dir = tmp_path / "run"
    train(run_dir, *QUICK, "--env-id=faulty:Faulty-v0", "--steps-per-update=7", "--updates=3", ranks=2)
    before = contents(run_dir)
    environ = {"QTRL_TEST_FAULT": "reseed 1 1"}
    job = train(run_dir, "--resume", ranks=2, code=2, environ=environ)
    [error] = job.errors
    assert "from the environment of agent 1 after the " in error
    assert contents(run_dir) == before
    train(run_dir, "--resume", "--updates=9", ranks=2)


def test_run_of_which_one_rank_was_killed_goes_on_from_its_checkpoint(tmp_path):
    """The rows after it are dropped and made again; a damaged newest checkpoint is stepped over."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = [*QUICK, "--env-id=faulty:Faulty-v0", "--checkpoint-every=8", "--updates=40"]
    train(whole, *flags, ranks=2)
    job = start(parts, *flags, ranks=2, environ={"QTRL_TEST_FAULT": "SIGKILL 1 23"})
    assert job.wait() not in (0, 2, 75)
    assert job.processes() == []
    assert updates_done(parts) == 22
    assert Checkpoint.load(parts / "checkpoint.h5").state.update == 16
    for name in ("checkpoint.h5", "checkpoint-0000000016.h5"):
        damage(parts / name)
    job = train(parts, "--resume", ranks=2)
    assert f"warning: {parts}/checkpoint.h5: is damaged" in job.err
    assert "from update 8 to 40" in job.out
    assert result(parts) == result(whole)
