"""What launchers tell their processes, read without MPI."""

from collections.abc import Mapping

from qtrl_hpc.errors import UserError

# (number of processes, number of this one)
LAUNCHER_VARIABLES = {
    "Open MPI's mpirun": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    "an mpirun of the MPICH family": ("PMI_SIZE", "PMI_RANK"),
    "srun": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
}


def check_launcher(size: int, library: str, environ: Mapping[str, str]) -> None:
    """Refuse N copies of rank 0: processes that a launcher started together but MPI did not connect.

    Args:
        size: of MPI's world.
        library: the MPI that mpi4py loaded, for the message.
        environ: the process's environment variables.

    Raises:
        UserError: naming the variable, both sizes and the remedy.
    """
    for launcher, (variable, _) in LAUNCHER_VARIABLES.items():
        expected = environ.get(variable, "")
        if not expected.isdigit():
            continue
        if size == 1 < int(expected):
            raise UserError(
                f"MPI: {launcher} started {expected} processes ({variable}), but mpi4py's MPI ({library}) sees {size}: "
                "launcher and library are of different MPIs; use the mpirun that belongs to that library, or "
                "reinstall mpi4py against the launcher's MPI (under Slurm: srun --mpi=pmix, or mpirun)"
            )
        return


def is_launched(environ: Mapping[str, str]) -> bool:
    """Return whether a launcher started this process."""
    return any(variable in environ for variable, _ in LAUNCHER_VARIABLES.values())


def launched_rank(environ: Mapping[str, str]) -> int:
    """Return the number that the launcher gave this process, 0 without one."""
    for _, variable in LAUNCHER_VARIABLES.values():
        if environ.get(variable, "").isdigit():
            return int(environ[variable])
    return 0
