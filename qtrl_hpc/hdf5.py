"""HDF5 files that are written whole or not at all, and read only where they are what they say."""

import hashlib
import os
import tempfile
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.errors import UserError

Attributes = dict[str, str | int]
Datasets = dict[str, NDArray[np.float64]]

# HDF5 1.10's format: its checksums cover the metadata as well.
_LIBVER = ("v110", "v110")


def write(path: Path, *, format: str, format_version: int, attributes: Attributes, datasets: Datasets) -> None:
    """Write a file beside ``path``, sync it, and rename it: whoever reads sees the old file or the new one, whole.

    Args:
        path: of the file; its folder exists.
        format: attribute ``format``, the kind of file.
        format_version: attribute ``format_version``.
        attributes: text and whole numbers, stored at the root.
        datasets: by absolute name, float64.
    """
    attributes = {**attributes, "format": format, "format_version": format_version}
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    try:
        with h5py.File(temporary, "w", libver=_LIBVER) as file:
            for name, values in datasets.items():
                file.create_dataset(name, data=np.ascontiguousarray(values, np.float64))
            for name, value in attributes.items():
                file.attrs[name] = value
            file.attrs["digest"] = content_digest(attributes, datasets)
        os.chmod(temporary, 0o666 & ~_umask())
        sync(Path(temporary))
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync(path.parent)


def read(path: Path, *, format: str, format_version: int) -> tuple[Attributes, Datasets]:
    """Read a file that ``write`` wrote.

    Raises:
        UserError: there is none, it is of another kind or a newer version, or it is damaged; the text names the file.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file, expected a {format} file")
    try:
        with h5py.File(path, "r") as file:
            attributes = {name: _plain(value) for name, value in file.attrs.items()}
            found = attributes.pop("format", None)
            if found != format:
                kind = f"a {found} file" if isinstance(found, str) else "an HDF5 file of another kind"
                raise UserError(f"{path}: got {kind}, expected a {format} file")
            version = attributes.pop("format_version", None)
            if not isinstance(version, int) or version > format_version:
                raise UserError(
                    f"{path}: got format version {version}, expected at most {format_version}: "
                    "a newer qtrl_hpc wrote it, update yours"
                )
            digest = attributes.pop("digest", None)
            datasets = _datasets(file, "", path.stat().st_size)
    except UserError:
        raise
    except Exception as error:  # h5py raises almost anything on a damaged file
        raise UserError(f"{path}: is damaged or no HDF5 file, expected a {format} file ({_one_line(error)})") from error
    if digest != content_digest({**attributes, "format": format, "format_version": version}, datasets):
        raise UserError(f"{path}: is damaged: its contents do not have the digest that it was written with")
    return attributes, datasets


def content_digest(attributes: Attributes, datasets: Datasets) -> str:
    """Return the SHA-256 of names, shapes and values, in name order, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(attributes):
        digest.update(f"{name}={attributes[name]!r}\n".encode())
    for name in sorted(datasets):
        values = np.ascontiguousarray(datasets[name], "<f8")
        digest.update(f"{name.strip('/')}{values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _datasets(group: h5py.Group, prefix: str, file_size: int) -> Datasets:
    """Return all float64 arrays below a group; refuse what could point elsewhere or claim more than the file holds."""
    found: Datasets = {}
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{prefix}/{name} is a link")
        item = group[name]
        if isinstance(item, h5py.Group):
            found.update(_datasets(item, f"{prefix}/{name}", file_size))
        elif item.dtype != np.float64 or item.chunks is not None or item.external is not None or item.is_virtual:
            raise ValueError(f"{prefix}/{name} is not a plain float64 array")
        elif item.nbytes > file_size:
            raise ValueError(f"{prefix}/{name} claims more bytes than the file has")
        else:
            found[f"{prefix}/{name}"] = np.asarray(item[()])
    return found


def _plain(value: object) -> str | int:
    if isinstance(value, str):
        return value
    if isinstance(value, np.integer):
        return int(value)
    raise ValueError(f"an attribute holds {type(value).__name__}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
