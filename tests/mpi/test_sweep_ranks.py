"""A sweep under mpirun: all ranks take part in each trial."""

import signal

import pytest
from support import metrics, result, train, updates_done
from test_sweep import rows, start, sweep, trial, written

pytestmark = pytest.mark.mpi


def test_ranks_make_trials_together_stop_together_and_go_on(tmp_path):
    written(tmp_path, updates=400, checkpoint_every=50)
    job = start(tmp_path, "--trials=3", ranks=2)
    job.wait_until(lambda: updates_done(trial(tmp_path, 1)) >= 20, "the second trial")
    job.send(signal.SIGUSR1, rank=1)  # which asks nobody for trials
    assert job.wait() == 75
    assert [row["state"] for row in rows(tmp_path)] == ["done", "running"]
    sweep(tmp_path, "--trials=3", ranks=2)
    assert [row["state"] for row in rows(tmp_path)] == ["done"] * 3
    assert metrics(trial(tmp_path, 1))[-1]["episodes"] == 2
    train(tmp_path / "whole", f"--config={trial(tmp_path, 1)}/config.yaml", ranks=2)
    assert result(tmp_path / "whole") == result(trial(tmp_path, 1))


def test_what_is_refused_or_fails_is_so_on_every_rank(tmp_path):
    written(tmp_path, {"learning_rate": {"choices": [1.0e307, 1.0e308]}})
    [error] = sweep(tmp_path, "--trials=9", "--optimizer=sgd", ranks=2, code=1).errors
    assert "5 trials in a row have failed" in error
    [error] = sweep(tmp_path, "--trials=9", "--optimizer=sgd", "--agents-per-rank=3", ranks=2, code=2).errors
    assert "--agents-per-rank: ranks times agents make 6, expected 2 agents" in error
