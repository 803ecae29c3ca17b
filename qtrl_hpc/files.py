"""Files that are replaced whole or not at all."""

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qtrl_hpc.errors import WriteError, one_line

# What a file takes up at least: so much can be written over it on a full disk.
BLOCK = 4096
# What a file system without locks answers.
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


def replace(path: Path, content: bytes) -> None:
    """Write a file beside ``path``, sync it, and rename it: whoever reads sees the old file or the new one, whole.

    Args:
        path: of the file; its folder exists.
        content: of the file.

    Raises:
        WriteError: it cannot be written; what was written beside it is removed.
    """
    with writing(path):
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with open(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def overwrite(path: Path, content: bytes) -> None:
    """Write over a file, in the room that it has: the last resort where a disk is too full to ``replace`` it.

    It is one call, and blanks make up for what was longer before, so that a reader sees no mixture of both.

    Args:
        path: of the file.
        content: of the file.

    Raises:
        OSError: there is no such file, it cannot be written, or the content needs more room.
    """
    with path.open("r+b", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size
        if len(content) > max(length, BLOCK):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.write(content.ljust(length))
        os.fsync(file.fileno())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file that is being written where that fails: ``write`` and ``fsync`` do not.

    Raises:
        WriteError: in place of any other OSError.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> WriteError:
    """Return what says that this file could not be written, for what is too frequent for ``writing``."""
    return WriteError(error.errno, error.strerror or one_line(error), str(path))


def sync_folder(path: Path) -> None:
    """Wait until a folder's list of names is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def hold(path: Path) -> int | None:
    """Make a lock file and hold it until ``let_go``, or the end of this process.

    Returns:
        What ``let_go`` takes, or None: a file system without locks cannot keep others out.

    Raises:
        BlockingIOError: another process holds it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno not in NO_LOCKS:
            raise
        return None
    return handle


def let_go(handle: int | None) -> None:
    """Let go of what ``hold`` returned."""
    if handle is not None:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
