"""The Python API in a script that mpirun starts."""

import sys

import pytest
from support import Job, result, train

pytestmark = pytest.mark.mpi


def calling(folder, fault):
    return Job([sys.executable, "-m", "calling", fault], folder, ranks=2)


def said(job):
    return sorted(line for line in job.out.splitlines() if line.startswith("rank "))


def test_all_ranks_have_the_result_and_the_bits_are_the_command_s(tmp_path):
    job = calling(tmp_path, "none")
    assert job.wait() == 0, job.err
    first, second = said(job)[:3], said(job)[3:]
    assert [line.split(": ")[1] for line in first] == [line.split(": ")[1] for line in second]
    assert [line.split()[2:5] for line in first] == [["4", "asked", "to"], ["8", "None", "8"], ["8", "None", "8"]]
    flags = ["--env-id=CartPole-v1", "--num-actions=2", "--policy-hidden-sizes=[8]", "--layers=1", "--seed=3"]
    train(tmp_path / "command", *flags, "--qpu=statevector", "--max-episode-steps=20", "--updates=8", ranks=2)
    assert result(tmp_path / "whole") == result(tmp_path / "parts") == result(tmp_path / "command")


def test_another_configuration_on_one_rank_is_refused_on_all(tmp_path):
    job = calling(tmp_path, "other")
    assert job.wait() == 0, job.err
    assert said(job) == [
        f"rank {rank}: config: got another one on this rank than on rank 0, expected the same on all"
        for rank in range(2)
    ]
    assert not (tmp_path / "other").exists()


def test_what_one_rank_alone_meets_ends_all(tmp_path):
    job = calling(tmp_path, "raises")
    assert job.wait() != 0
    assert "rank 1 of 2 failed:" in job.err
    assert "'NoneType' object is not callable" in job.err
    assert job.processes() == []
