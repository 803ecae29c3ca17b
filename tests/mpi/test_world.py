"""The primitives of distributed.py on four ranks."""

import sys
from pathlib import Path

import pytest
from support import Job

pytestmark = pytest.mark.mpi
PRIMITIVES = str(Path(__file__).with_name("primitives.py"))


def test_every_rank_sees_what_world_promises(tmp_path):
    job = Job([sys.executable, PRIMITIVES, "check"], tmp_path, ranks=4)
    assert job.wait() == 7, job.err  # what the command returns is the exit code
    assert sorted(job.out.split("\n")) == ["", *(f"rank {rank} is content" for rank in range(4))]


def test_refusal_that_the_other_ranks_cannot_know_of_ends_them_too(tmp_path):
    job = Job([sys.executable, PRIMITIVES, "fail"], tmp_path, ranks=2)
    assert job.wait() == 2
    assert job.errors == ["error: something only rank 1 knows (rank 1)"]
    assert job.processes() == []
