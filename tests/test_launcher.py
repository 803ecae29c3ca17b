"""N copies of rank 0 are noticed from what launchers tell their processes."""

import pytest

from qtrl_hpc.errors import UserError
from qtrl_hpc.launcher import check_launcher, is_launched, launched_rank

VARIABLES = [
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("PMI_SIZE", "PMI_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
]


@pytest.mark.parametrize(("size", "rank"), VARIABLES)
def test_launcher_of_another_mpi_is_refused_with_the_remedy(size, rank):
    with pytest.raises(UserError) as caught:
        check_launcher(1, "Open MPI v5.0.11", {size: "8", rank: "3"})
    text = str(caught.value)
    assert "\n" not in text
    for word in (
        f"8 processes ({size})",
        "sees 1",
        "Open MPI v5.0.11",
        "use the mpirun that belongs",
        "reinstall mpi4py",
    ):
        assert word in text


@pytest.mark.parametrize(("size", "rank"), VARIABLES)
@pytest.mark.parametrize("count", [1, 8])
def test_launcher_that_mpi_agrees_with_is_accepted(size, rank, count):
    check_launcher(count, "any", {size: str(count), rank: "0"})


def test_no_launcher_is_accepted():
    check_launcher(1, "any", {})
    check_launcher(1, "any", {"OMPI_COMM_WORLD_SIZE": "", "PATH": "/bin", "SLURM_NTASKS": "8"})


def test_mpirun_within_a_slurm_step_is_judged_by_mpirun():
    """An interactive step has one task, in which mpirun starts eight."""
    step = {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}
    check_launcher(8, "any", {**step, "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "5"})
    with pytest.raises(UserError, match="OMPI_COMM_WORLD_SIZE"):
        check_launcher(1, "any", {**step, "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "5"})
    assert launched_rank({**step, "OMPI_COMM_WORLD_RANK": "5"}) == 5


@pytest.mark.parametrize(("size", "rank"), VARIABLES)
def test_rank_as_the_launcher_counts(size, rank):
    assert launched_rank({size: "8", rank: "3"}) == 3
    assert is_launched({size: "8", rank: "3"})


def test_rank_without_a_launcher():
    assert launched_rank({}) == launched_rank({"PMI_RANK": "x"}) == 0
    assert not is_launched({"SLURM_NTASKS": "8"})
