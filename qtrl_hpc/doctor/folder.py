"""Try the folder that a run would write to: room, speed, locks, and whether all ranks see the same."""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from qtrl_hpc.distributed import World
from qtrl_hpc.doctor import gather
from qtrl_hpc.errors import one_line
from qtrl_hpc.files import NO_LOCKS

PROBE_BYTES = 1 << 16  # about a checkpoint of the paper's policy
TIMES = 5
SECONDS_TO_SEE = 5.0  # a network file system may show a new file late
SECONDS_FOR_A_PROCESS = 20.0

# Exit code 0: the lock was free; 3: it is taken; else the file system has none.
_TRY_LOCK = """
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(3)
"""


def nearest(path: Path) -> Path:
    """Return a path, or the nearest above it that exists."""
    absolute = path.absolute()
    return next(each for each in (absolute, *absolute.parents) if os.path.lexists(each))


def look(folder: Path) -> dict[str, Any]:
    """Write into a folder, and lock there: fields of ``Facts``. Whatever is written is removed."""
    found: dict[str, Any] = {"folder": str(folder), "file_system": gather.file_system(folder.resolve())}
    try:
        found["room"] = gather.free_bytes(folder)
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as place:
            found["sync_seconds"] = median(_write(Path(place, str(number))) for number in range(TIMES))
            found["locks"] = _locks(Path(place, "lock"))
    except OSError as error:
        found["folder_trouble"] = error.strerror or one_line(error)
    return found


def look_together(world: World, folder: str | None) -> dict[str, Any]:
    """Find out whether a file and a lock of rank 0's are there for this rank. Collective: all ranks.

    Args:
        world: of all ranks.
        folder: on rank 0, where it can be written to.

    Returns:
        Fields of ``Facts``.
    """
    name, handle = "", -1
    if world.rank == 0 and folder is not None:
        handle, name = tempfile.mkstemp(prefix=".doctor-", dir=folder)
        os.write(handle, os.fsencode(name))
        os.fsync(handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            handle = -1
    name, locked = world.gather_text(name)[0], world.gather_text(str(handle))[0] != "-1"
    found: dict[str, Any] = {}
    if name and world.rank != 0:
        found["sees_folder"] = _sees(Path(name))
        if found["sees_folder"] and locked:
            found["locks"] = _kept_out(Path(name))
    world.meet()
    if world.rank == 0 and name:
        if handle >= 0:
            os.close(handle)
        Path(name).unlink()
    return found


def _write(path: Path) -> float:
    """Write and sync a small file; return the seconds."""
    start = time.perf_counter()
    with path.open("wb") as file:
        file.write(os.urandom(PROBE_BYTES))
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - start


def _locks(path: Path) -> bool:
    """Return whether a lock of ours keeps another process out."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        command = [sys.executable, "-S", "-c", _TRY_LOCK, str(path)]
        try:
            tried = subprocess.run(command, stderr=subprocess.DEVNULL, timeout=SECONDS_FOR_A_PROCESS)
        except subprocess.TimeoutExpired:
            return False
    return tried.returncode == 3


def _sees(path: Path) -> bool:
    """Return whether a file that has just been written, and holds its own name, can be read."""
    deadline = time.monotonic() + SECONDS_TO_SEE
    while True:
        try:
            if path.read_text() == str(path):
                return True
        except OSError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def _kept_out(path: Path) -> bool | None:
    """Return whether rank 0's lock keeps this process out; None where it cannot be tried."""
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        return False if error.errno in NO_LOCKS else None
    return False
