"""Files that a command writes where the user says: of the kind that the name says, over nothing of another kind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qtrl_hpc import files
from qtrl_hpc.errors import UserError

REPORT_SIGNATURE = "<!DOCTYPE html>\n<!-- qtrl_hpc.report -->\n"
SIGNATURES: dict[str, tuple[bytes, ...]] = {
    ".gif": (b"GIF87a", b"GIF89a"),
    ".html": (REPORT_SIGNATURE.encode(),),
    ".pdf": (b"%PDF-",),
    ".png": (b"\x89PNG\r\n",),
    ".svg": (b"<?xml", b"<svg"),
}


def check_output(path: Path, flag: str, *suffixes: str) -> None:
    """Refuse what could not be written in the end, or should not be.

    Args:
        path: of the file.
        flag: that names it.
        suffixes: that it may end in, among those of ``SIGNATURES``.

    Raises:
        UserError: it ends in something else, has no folder, or is there and of another kind.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise UserError(f"{flag}: got {path}, expected a name that ends in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise UserError(f"{flag}: got {path}, whose folder does not exist")
    if path.exists() and not _begins(path, SIGNATURES[suffix]):
        raise UserError(f"{flag}: got {path}, which exists and is none of ours ({suffix}) that could be replaced")


def write_output(path: Path, flag: str, content: bytes) -> None:
    """Write a file that the user names, whole or not at all (``files.replace``).

    Raises:
        UserError: it cannot be written.
    """
    with refusing_unwritable(path, flag):
        files.replace(path, content)


@contextmanager
def refusing_unwritable(path: Path, flag: str) -> Iterator[None]:
    """Refuse a file, naming the flag that names it, where the disk does.

    Raises:
        UserError: it cannot be written, or looked at.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{flag}: got {path}, which cannot be written ({error.strerror})") from error


def _begins(path: Path, signatures: tuple[bytes, ...]) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(max(map(len, signatures))).startswith(signatures)
    except OSError:
        return False
