"""What launchers tell their processes, read without MPI."""

import re
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


def is_fault_tolerant(environ: Mapping[str, str]) -> bool:
    """Return whether Open MPI's launcher was told to let ranks outlive others (``--with-ft ulfm``)."""
    return environ.get("OMPI_MCA_mpi_ft_enable", "") in ("1", "true")


def missing_for_tolerance(library: str, num_hosts: int, environ: Mapping[str, str]) -> str:
    """Return what a run lacks to outlive a rank's death, and what to do; nothing where it lacks nothing.

    Args:
        library: of ``library_version``.
        num_hosts: that the ranks are on.
        environ: of a rank.
    """
    found = re.match(r"Open MPI v(\d+)", library)
    if not found or int(found[1]) < 5:
        return f"expected Open MPI 5 or newer with its fault tolerance (ULFM), not {library}"
    if not is_fault_tolerant(environ):
        return "expected a launch by mpirun --with-ft ulfm -n N …"
    if num_hosts > 1 and not without_han(environ.get("OMPI_MCA_coll", "")):
        return (
            f"expected mpirun --with-ft ulfm --mca coll ^han with ranks on {num_hosts} hosts: Open MPI's hierarchical "
            "collectives may return wrong sums after a death"
        )
    return ""


def without_han(components: str) -> bool:
    """Return whether ``OMPI_MCA_coll`` leaves out Open MPI's hierarchical collectives."""
    names = components.removeprefix("^").split(",")
    return "han" in names if components.startswith("^") else bool(components) and "han" not in names
