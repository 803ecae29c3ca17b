"""One Slurm for all tests of this folder."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from batch import Batch
from slurm import NoSlurmError, Slurm


@pytest.fixture(scope="session")
def slurm():
    cluster = Slurm()
    try:
        cluster.__enter__()
    except NoSlurmError as error:
        pytest.skip(f"a Slurm to test with cannot be had: {error}")
    try:
        yield cluster
    finally:
        cluster.__exit__(None, None, None)


@pytest.fixture
def submit(slurm, tmp_path):
    """Submit a script of jobs/; what is left of it at the end of the test is cancelled, and nodes are up again."""
    jobs = []

    def start(script, *flags, options=(), **environ):
        job = Batch(slurm, tmp_path, script, list(flags), list(options), environ)
        jobs.append(job)
        return job

    yield start
    for job in jobs:
        slurm.command("scancel", "--quiet", job.id.split("_")[0])
    for node in slurm.nodes:
        slurm.revive(node)
    slurm.wait_until_idle()
