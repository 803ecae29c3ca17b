"""Look at this process and its machine. Nothing here talks to another rank."""

import ctypes
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

from qtrl_hpc.errors import one_line
from qtrl_hpc.launcher import LAUNCHER_VARIABLES, without_han
from qtrl_hpc.provenance import versions

SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMBA_CPU_NAME",
    "HDF5_USE_FILE_LOCKING",
    "OMPI_MCA_mpi_yield_when_idle",
    "OMPI_MCA_btl",
    "OMPI_MCA_coll",
    "OMPI_MCA_pml",
)
SECONDS_FOR_MPIRUN = 20.0
SHM = Path("/dev/shm")


def machine() -> dict[str, Any]:
    """Return what any rank can say of itself: fields of ``Facts``."""
    return {
        "host": socket.gethostname(),
        "processor": _processor(),
        "versions": versions() | _hdf5_version(),
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
        "cpus": sorted(os.sched_getaffinity(0)),
        "quota": cpu_quota(Path("/")),
    }


def pools() -> dict[str, int]:
    """Return the threads of each library that has been loaded so far."""
    return {pool["internal_api"]: pool["num_threads"] for pool in threadpool_info()}


def launcher(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what started this process: fields of ``Facts``."""
    names = [name for name, (size, _) in LAUNCHER_VARIABLES.items() if environ.get(size, "").isdigit()]
    return {
        "launcher": names[0] if names else None,
        "launcher_version": environ.get("OMPI_VERSION"),
        "pmix": environ.get("PMIX_VERSION", "of unknown version") if "PMIX_RANK" in environ else None,
        "without_han": without_han(environ.get("OMPI_MCA_coll", "")),
    }


def mpirun_version() -> str | None:
    """Return the first line of ``mpirun --version``; None where there is none that works."""
    found = shutil.which("mpirun")
    if not found:
        return None
    try:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=SECONDS_FOR_MPIRUN)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (said.stdout or said.stderr).split("\n")
    return " ".join(lines[0].split()) or None


def library_file() -> str | None:
    """Return the path of the MPI library that this process has loaded."""
    mapped = (line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines())
    return next((parts[5] for parts in mapped if len(parts) == 6 and re.search(r"/libmpi\.so", parts[5])), None)


def library(path: str | None) -> dict[str, Any]:
    """Return what the MPI library itself can say: fields of ``Facts``.

    Whether mpi4py has ``Comm.Shrink``, or a call of it succeeds, proves nothing: it fills in what a library lacks. So
    the library is asked for its own symbol, and for the value of its own setting (MPI_T).
    """
    if path is None:
        return {}
    mpi = ctypes.CDLL(path)
    yields, fault_tolerant = _control_variables(mpi, b"mpi_yield_when_idle", b"mpi_ft_enable")
    return {
        "library_file": path,
        "own_library": Path(path).resolve().is_relative_to(Path(sys.prefix).resolve()),
        "yields": None if yields is None else yields == 1,
        "ulfm_built": hasattr(mpi, "MPIX_Comm_shrink") and fault_tolerant is not None,
        "ulfm_on": fault_tolerant == 1,
    }


def cpu_quota(root: Path) -> float | None:
    """Return the cores' worth of time that this process's cgroup allows; None where there is no limit.

    Args:
        root: of the file system.
    """
    limits = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        group = base / path.lstrip("/")
        # A limit of any group above counts too; inside a container the path may not be there.
        for folder in (group, *group.parents):
            if folder.is_relative_to(base):
                limits.append(_limit(folder))
    return min((limit for limit in limits if limit is not None), default=None)


def _limit(group: Path) -> float | None:
    """Return the limit of one cgroup, of version 2 or 1."""
    quota, _, period = _text(group / "cpu.max").strip().partition(" ")
    if not quota:
        quota, period = (_text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    if not (quota.isdigit() and period.isdigit()):
        return None
    return int(quota) / int(period)


def shared_memory() -> dict[str, Any]:
    """Return how /dev/shm is: fields of ``Facts``."""
    if not SHM.is_dir():
        return {}
    return {"shm_room": free_bytes(SHM), "shm_left": len(left_segments(SHM))}


def left_segments(folder: Path) -> list[Path]:
    """Return Open MPI's segments in ``folder`` that belong to this user and that no process of his has mapped."""
    own = [path for path in folder.glob("sm_segment.*") if _owner(path) == os.getuid()]
    mapped = "\n".join(_text(maps) for maps in Path("/proc").glob("[0-9]*/maps")) if own else ""
    return [path for path in own if str(path) not in mapped]


def graphics() -> dict[str, Any]:
    """Return GPUs, and whether torch and Aer can use them: fields of ``Facts``."""
    cards = Path("/proc/driver/nvidia/gpus").glob("*/information")
    found: dict[str, Any] = {"gpus": [_model(_text(card)) for card in sorted(cards)]}
    if found["gpus"]:
        try:
            import torch

            found["torch_cuda"] = torch.cuda.is_available()
        except ImportError:
            found["torch_cuda"] = False
    try:
        from qiskit_aer import AerSimulator

        found["aer_devices"] = list(AerSimulator().available_devices())
    except Exception as error:  # whatever a broken installation raises
        found["aer_trouble"] = one_line(error) or type(error).__name__
    return found


def free_bytes(folder: Path) -> int:
    """Return the room that is left for this user."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def file_system(folder: Path) -> str | None:
    """Return the kind of file system that a folder is on, as the kernel calls it."""
    best, kind = -1, None
    for line in _text(Path("/proc/self/mountinfo")).splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].encode().decode("unicode_escape"))
        if folder.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split()[0]
    return kind


def _control_variables(mpi: ctypes.CDLL, *names: bytes) -> list[int | None]:
    """Return whole numbers that MPI's tool interface knows by these names."""
    provided = ctypes.c_int()
    if not hasattr(mpi, "MPI_T_init_thread") or mpi.MPI_T_init_thread(0, ctypes.byref(provided)):
        return [None] * len(names)
    found = [_control_variable(mpi, name) for name in names]
    mpi.MPI_T_finalize()
    return found


def _control_variable(mpi: ctypes.CDLL, name: bytes) -> int | None:
    index, handle, count, value = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int64()
    if mpi.MPI_T_cvar_get_index(name, ctypes.byref(index)):
        return None
    if mpi.MPI_T_cvar_handle_alloc(index, None, ctypes.byref(handle), ctypes.byref(count)):
        return None
    failed = mpi.MPI_T_cvar_read(handle, ctypes.byref(value))
    mpi.MPI_T_cvar_handle_free(ctypes.byref(handle))
    return None if failed else value.value


def _hdf5_version() -> dict[str, str]:
    try:
        import h5py
    except ImportError:
        return {}
    return {"HDF5": h5py.version.hdf5_version}


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", _text(Path("/proc/cpuinfo")), re.MULTILINE)
    return found[1] if found else os.uname().machine


def _model(information: str) -> str:
    found = re.search(r"^Model:\s*(.*)$", information, re.MULTILINE)
    return found[1] if found else "a GPU"


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


def _text(path: Path) -> str:
    """Return what a file says; nothing where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
