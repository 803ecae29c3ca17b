"""Agents with QPUs of their own, on real ranks: the same run however it is cut up, and what happens when they fail."""

import json
import re
import signal
import time

import numpy as np
import pytest
from support import QUICK, metrics, result, start, train

from qtrl_hpc.checkpoint import Checkpoint

pytestmark = pytest.mark.mpi

SMALL = [flag for flag in QUICK if not flag.startswith("--qpu")] + ["--updates=6", "--qpu-pause=0.01"]
NOISE = "--noise={two_qubit_rate: 0.01, readout_error: 0.01, spread: 0.3}"
SPSA = [*SMALL, NOISE, "--shots=200", "--gradient=spsa", "--reduction=ordered"]
SHARED = [*SMALL, "--shots=20", "--gradient=parameter-shift", "--share-circuits", "--reduction=ordered"]
# A device of the tests' own, which goes wrong (tests/support_qpus.py).
OWN = [*SMALL, "--gradient=surrogate", "--qpu-retries=0", "--updates=20"]
EXACT_OWN, LINE = [*OWN, "--qpu=backend:support_qpus:Exact"], [*OWN, "--qpu=backend:support_qpus:Line", "--shots=100"]


@pytest.mark.parametrize(("flags", "circuits"), [(SPSA, 4 * 3), (SHARED, 4 + 6 * 6 + 6 * 12)], ids=["spsa", "shared"])
def test_bits_do_not_depend_on_ranks_nor_on_a_stop(tmp_path, flags, circuits):
    """Four agents on one rank without a break, and on 4 and 2 ranks with one."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, *flags, "--agents-per-rank=4")
    train(parts, *flags, "--updates=3", ranks=4)
    train(parts, "--resume", "--updates=6", "--agents-per-rank=2", ranks=2)
    assert result(parts) == result(whole)
    for row in metrics(whole):
        assert (row["delivered"], row["qpu_failures"], row["circuits"], row["retries"]) == (4, {}, circuits, 0)


def test_four_ranks_with_spsa_and_8192_shots(tmp_path):
    job = train(tmp_path / "run", *SMALL, "--shots=8192", "--gradient=spsa", "--updates=3", ranks=4)
    assert "8192 shots, no noise added; spsa: an update of an agent takes 1 + 2 circuits" in job.out
    assert [row["circuits"] for row in metrics(tmp_path / "run")] == [12, 12, 12]
    saved = Checkpoint.load(tmp_path / "run" / "checkpoint.h5")
    assert saved.theta_source == "exact probabilities of agent 0's QPU"


def test_device_that_fails_one_time_in_ten_in_every_way(tmp_path):
    """Rank 1's, at every tenth job: its agent is missing then, and named; the others go on without it."""
    run_dir = tmp_path / "run"
    words = {
        "raise": "RuntimeError: the fridge is warm",
        "length": "of shape (1, 63), expected (1, 64)",
        "sum": "sum to 0.9, expected 1",
        "nan": "not finite",
        "hang": "TimeoutError: no result after 1 s",
    }
    flags = [*EXACT_OWN, "--updates=50", "--qpu-timeout=1"]
    start = time.monotonic()
    job = train(run_dir, *flags, ranks=3, environ={"QTRL_TEST_QPU": f"{','.join(words)} 10 1"})
    assert time.monotonic() - start < 60, "nothing hangs, not even at the end"
    rows = metrics(run_dir)
    assert [row["update"] for row in rows] == list(range(1, 51))
    failing = dict(zip([10, 20, 30, 40, 50], words.values(), strict=True))
    for row in rows:
        if row["update"] in failing:
            assert (row["delivered"], row["episodes"], list(row["qpu_failures"])) == (2, 2, ["1"])
            assert failing[row["update"]] in row["qpu_failures"]["1"]
        else:
            assert (row["delivered"], row["episodes"], row["qpu_failures"]) == (3, 3, {})
    assert "Traceback" not in job.err
    assert np.isfinite(Checkpoint.load(run_dir / "checkpoint.h5").state.to_vector()).all()


def test_back_end_that_fails_one_time_in_ten_is_asked_again_and_the_run_is_the_same(tmp_path):
    flags = [*LINE, "--policy-hidden-sizes=[2]", "--qpu-retries=2", "--updates=35"]
    train(tmp_path / "run", *flags, ranks=2, environ={"QTRL_TEST_QPU": "raise,counts 10"})
    train(tmp_path / "plain", *flags, ranks=2)
    rows, plain = metrics(tmp_path / "run"), metrics(tmp_path / "plain")
    assert {row["delivered"] for row in rows} == {2}
    assert sum(row["retries"] for row in rows) == 2 * 3
    names = ("reward_mean", "grad_norm", "steps")
    assert [[row[name] for name in names] for row in rows] == [[row[name] for name in names] for row in plain]


def test_without_a_quorum_the_run_stops_with_a_checkpoint_and_goes_on_as_if_nothing_had_been(tmp_path):
    """Both agents fail in update 8, in the middle of their episodes; they are back when the run is resumed."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = [*EXACT_OWN, "--steps-per-update=5", "--reduction=ordered"]
    train(whole, *flags, ranks=2)
    job = train(parts, *flags, ranks=2, code=75, environ={"QTRL_TEST_QPU": "raise 8"})
    [told] = [line for line in job.err.splitlines() if line.startswith("stopped: ")]
    assert told.startswith("stopped: update 8 was delivered by 0 of 2 agents, expected at least --quorum 0.5 of them")
    assert all(f"agent {agent}: RuntimeError: the fridge is warm" in told for agent in range(2))
    assert "--resume" in job.out
    saved = Checkpoint.load(parts / "checkpoint.h5")
    assert (saved.state.update, len(metrics(parts))) == (7, 7)
    [reason] = re.findall(r"agent 0: (.*); agent 1", told)
    assert saved.theta_source == f"the ideal circuit, as agent 0's QPU failed: {reason}", "it is not asked again"
    train(parts, "--resume", ranks=2)
    assert result(parts) == result(whole)


@pytest.mark.parametrize("who", ["hang 8", "raise 8 1"])
def test_who_is_asked_to_stop_does_not_wait_for_a_back_end(tmp_path, who):
    """All hang, or one of two waits for its next attempt: the update is made when the run is resumed."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = [*EXACT_OWN, "--steps-per-update=5", "--reduction=ordered", "--updates=10"]
    train(whole, *flags, ranks=2)
    patient = ["--qpu-retries=9", "--qpu-pause=500", "--qpu-timeout=1000"]
    job = start(parts, *flags, *patient, ranks=2, environ={"QTRL_TEST_QPU": who})
    job.wait_until(lambda: len(metrics(parts)) == 7, "7 updates")
    for rank in range(2):
        job.send(signal.SIGUSR1, rank)
    assert job.wait() == 75, job.err  # with all its patience it would outlast the time limit of tests by far
    assert (Checkpoint.load(parts / "checkpoint.h5").state.update, len(metrics(parts))) == (7, 7)
    assert json.loads((parts / "status.json").read_text())["why"] == "asked to by a signal"
    train(parts, "--resume", ranks=2)
    assert result(parts) == result(whole)


@pytest.mark.parametrize("what", ["nan", "raise"])
def test_exact_probabilities_that_are_wrong_are_not_kept(tmp_path, what):
    """A checkpoint holds a measurement then, and can be read."""
    train(tmp_path / "run", *EXACT_OWN, "--updates=3", environ={"QTRL_TEST_EXACT": what})
    saved = Checkpoint.load(tmp_path / "run" / "checkpoint.h5")
    assert (saved.state.update, saved.theta_source) == (3, "one measurement of agent 0's QPU")


def test_quorum_is_the_share_that_must_deliver(tmp_path):
    """One of two ranks fails at its third job: half is not 51 %."""
    flags = [*EXACT_OWN, "--updates=5", "--quorum=0.51"]
    train(tmp_path / "run", *flags, ranks=2, code=75, environ={"QTRL_TEST_QPU": "raise 3 1"})
    assert len(metrics(tmp_path / "run")) == 2


def test_environment_that_fails_is_no_failure_of_a_qpu(tmp_path):
    flags = [*SPSA, "--env-id=faulty:Faulty-v0"]
    job = train(tmp_path / "run", *flags, ranks=2, code=1, environ={"QTRL_TEST_FAULT": "raise 1 3"})
    assert "RuntimeError: the pole broke" in job.err


def test_bad_input_is_one_line_and_exit_code_2_on_every_rank(tmp_path):
    for flags, words in (
        (["--shots=100"], "--gradient: got 'adjoint', which needs exact amplitudes, with --shots 100"),
        (
            ["--noise=[{}, {}, {}]", "--gradient=spsa"],
            "--noise: got a list of 3, expected one for each of the 2 agents",
        ),
        (
            ["--qpu=backend:support_qpus:Other", "--gradient=spsa"],
            "runs Ansatz(num_qubits=6, num_layers=2)",
        ),
    ):
        job = train(tmp_path / "run", *SMALL, *flags, ranks=2, code=2)
        assert [words in error for error in job.errors] == [True]
        assert "Traceback" not in job.err
        assert not (tmp_path / "run").exists()
