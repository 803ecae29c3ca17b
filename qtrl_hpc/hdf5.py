"""HDF5 files that are written whole or not at all, and read only where they are what they say.

HDF5 works on memory alone; the disk sees plain bytes. So a full disk is an ordinary ``OSError``, and no lock of HDF5's
is ever asked of a network file system.
"""

import hashlib
import io
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import files
from qtrl_hpc.errors import UserError, one_line, shown
from qtrl_hpc.hdf5_headers import HeapError, check_headers

Attributes = dict[str, str | int]
Datasets = dict[str, NDArray[np.float64]]

# HDF5 1.10's format: its checksums cover the metadata as well.
_LIBVER = (h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
_MOST_LINKS = 100
_MOST_LINKS_COMPRESSED = 10_000
_MOST_COMPRESSION = 1032  # what deflate can reach
_LONGEST_TEXT = 60_000  # in one attribute: HDF5 puts what has 64 KiB and more elsewhere than in the header
_MOST_ATTRIBUTES = 1000


class DamagedError(UserError):
    """The file is not what it was when it was written."""


def write(
    path: Path,
    *,
    format: str,
    format_version: int,
    attributes: Attributes,
    datasets: Datasets,
    compressed: bool = False,
) -> None:
    """Write what ``encode`` returns to a file, atomically (``files.replace``)."""
    content = encode(
        format=format,
        format_version=format_version,
        attributes=attributes,
        datasets=datasets,
        compressed=compressed,
    )
    files.replace(path, content)


def encode(
    *, format: str, format_version: int, attributes: Attributes, datasets: Datasets, compressed: bool = False
) -> bytes:
    """Return the bytes of a file.

    Args:
        format: attribute ``format``, the kind of file.
        format_version: attribute ``format_version``.
        attributes: text and whole numbers, stored at the root.
        datasets: by absolute name, float64.
        compressed: store them by HDF5's gzip filter, which finds numbers that come back.
    """
    filters = {"compression": "gzip", "compression_opts": 9} if compressed else {}
    attributes = {**attributes, "format": format, "format_version": format_version}
    image = _empty_image_file()
    with h5py.File(image) as file:
        for name, values in datasets.items():
            file.create_dataset(name, data=np.ascontiguousarray(values, np.float64), **filters)
        for name, value in {**attributes, "digest": content_digest(attributes, datasets)}.items():
            for piece, part in _pieces(name, value):
                file.attrs[piece] = part
        file.flush()
        content: bytes = image.get_file_image()
    return content


def read(path: Path, *, format: str, format_version: int, compressed: bool = False) -> tuple[Attributes, Datasets]:
    """Read a file that ``write`` wrote.

    Args:
        path: of the file.
        format: that it must have.
        format_version: the newest that can be read.
        compressed: whether its datasets are.

    Raises:
        DamagedError: it is not as it was written; the text names the file.
        UserError: it is missing or cannot be read, of another kind, or of a newer version.
    """
    content = content_of(path, format)
    return decode(path, content, format=format, format_version=format_version, compressed=compressed)


def decode(
    path: Path, content: bytes, *, format: str, format_version: int, compressed: bool = False
) -> tuple[Attributes, Datasets]:
    """Return what ``encode`` was given; arguments and refusals are those of ``read``."""
    try:
        if not compressed:
            check_headers(content)
        with h5py.File(io.BytesIO(content), "r") as file:
            attributes = _attributes(file)
            check_kind(path, attributes, format, format_version)
            digest = attributes.pop("digest", None)
            datasets = _datasets(file, len(content), compressed=compressed)
    except UserError:
        raise
    except HeapError as error:
        raise UserError(
            f"{path}: {error}, expected a {format} file whose header holds it all; if it is an older one of your own, "
            "docs/formats.md says how to rewrite it"
        ) from None
    except Exception as error:  # h5py raises almost anything on a damaged file
        reason = one_line(error)[:200]
        raise DamagedError(
            f"{path}: is damaged or no HDF5 file as we write them, expected a {format} file ({reason})"
        ) from error
    if digest != content_digest(attributes, datasets):
        raise DamagedError(f"{path}: is damaged: its contents do not have the digest that it was written with")
    return {name: value for name, value in attributes.items() if name not in ("format", "format_version")}, datasets


def content_of(path: Path, format: str, advice: str = "") -> bytes:
    """Return what is in a file.

    Args:
        path: of the file.
        format: that is expected, for the refusal.
        advice: for who names a directory.

    Raises:
        UserError: it is no regular file, or cannot be read; the text names it.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a directory, expected a {format} file{advice}")
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is no regular file, expected a {format} file")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}), expected a {format} file") from error


def check_kind(path: Path, attributes: Attributes, format: str, format_version: int) -> None:
    """Refuse a file of another kind, or of a newer version.

    Args:
        path: of the file, for the refusal.
        attributes: ``format`` and ``format_version`` among them.
        format: that is expected.
        format_version: the newest that can be read.

    Raises:
        UserError: naming the file.
    """
    found, version = attributes.get("format"), attributes.get("format_version")
    if found != format:
        named = isinstance(found, str) and found.isprintable() and len(found) <= 100
        kind = f"a {found} file" if named else "a file of another kind"
        raise UserError(f"{path}: got {kind}, expected a {format} file")
    if not isinstance(version, int) or version > format_version:
        raise UserError(
            f"{path}: got format version {shown(version)}, expected at most {format_version}: "
            "a newer qtrl_hpc wrote it, update yours"
        )


def content_digest(attributes: Attributes, datasets: Datasets) -> str:
    """Return the SHA-256, in hexadecimal, of all attributes and datasets, each in the order of names.

    An attribute gives the line "name=value", a dataset the line "name AxB" (its shape) and its little-endian float64s.
    """
    digest = hashlib.sha256()
    for name in sorted(attributes):
        digest.update(f"{name}={attributes[name]}\n".encode())
    for name in sorted(datasets):
        values = np.ascontiguousarray(datasets[name], "<f8")
        digest.update(f"{name} {'x'.join(map(str, values.shape))}\n".encode())
        digest.update(values.reshape(-1).data)
    return digest.hexdigest()


def _datasets(file: h5py.File, file_size: int, *, compressed: bool) -> Datasets:
    """Return all float64 arrays; refuse what points elsewhere, or claims more bytes together than the file can hold."""
    most_links, most_bytes = (
        (_MOST_LINKS_COMPRESSED, file_size * _MOST_COMPRESSION) if compressed else (_MOST_LINKS, file_size)
    )
    found: Datasets = {}
    links, claimed, groups = 0, 0, [("", file)]
    while groups:
        prefix, group = groups.pop()
        for name in group:
            links += 1
            if links > most_links:
                raise ValueError(f"it holds more than {most_links} names")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{prefix}/{name} is a link")
            item = group[name]
            if isinstance(item, h5py.Group):
                groups.append((f"{prefix}/{name}", item))
                continue
            if not isinstance(item, h5py.Dataset) or item.dtype != np.float64 or item.shape is None:
                raise ValueError(f"{prefix}/{name} is no float64 array")
            if (item.chunks is None) is compressed or item.external is not None or item.is_virtual:
                raise ValueError(
                    f"{prefix}/{name} is not stored {'in compressed chunks' if compressed else 'as one piece'}"
                )
            claimed += item.nbytes
            if claimed > most_bytes:
                raise ValueError(f"{prefix}/{name} claims more bytes than the file has")
            found[f"{prefix}/{name}"] = np.asarray(item[()])
    return found


def _empty_image_file() -> h5py.h5f.FileID:
    """Return a new file in memory whose root keeps all attributes in its header, none in a heap."""
    access, creation = h5py.h5p.create(h5py.h5p.FILE_ACCESS), h5py.h5p.create(h5py.h5p.FILE_CREATE)
    access.set_fapl_core(backing_store=False)
    access.set_libver_bounds(*_LIBVER)
    creation.set_attr_phase_change(_MOST_ATTRIBUTES, 0)
    return h5py.h5f.create(b"in memory", h5py.h5f.ACC_TRUNC, creation, access)


def _pieces(name: str, value: str | int) -> list[tuple[str, np.ndarray | int]]:
    """Return an attribute as HDF5 stores it: long text in pieces, the further ones as "name~1", "name~2" and so on.

    Text is HDF5's text of fixed length, which stands in the header with its checksum. Text of variable length stands in
    the global heap, which has none: a flipped bit there can make HDF5 loop for ever.
    """
    if not isinstance(value, str):
        return [(name, int(value))]
    encoded = value.encode()
    parts = [encoded[start : start + _LONGEST_TEXT] for start in range(0, len(encoded), _LONGEST_TEXT)] or [b""]
    return [
        (f"{name}~{number}" if number else name, np.array(part, h5py.string_dtype("utf-8", max(1, len(part)))))
        for number, part in enumerate(parts)
    ]


def _attributes(file: h5py.File) -> Attributes:
    """Return all attributes, the pieces of long ones put together."""
    if len(file.attrs) > _MOST_ATTRIBUTES:
        raise ValueError(f"it has more than {_MOST_ATTRIBUTES} attributes")
    found = {name: _attribute(file, name) for name in file.attrs}
    joined: Attributes = {}
    for name, value in found.items():
        if "~" in name:
            continue
        if isinstance(value, int):
            joined[name] = value
            continue
        pieces, number = [value], 1
        while isinstance(piece := found.get(f"{name}~{number}"), bytes):
            pieces.append(piece)
            number += 1
        joined[name] = b"".join(pieces).decode()
    return joined


def _attribute(file: h5py.File, name: str) -> bytes | int:
    kind = file.attrs.get_id(name)
    if kind.shape != () or kind.get_type().get_class() not in (h5py.h5t.STRING, h5py.h5t.INTEGER):
        raise ValueError(f"attribute {name} is neither text nor a whole number")
    if kind.get_type().get_class() == h5py.h5t.INTEGER:
        return int(file.attrs[name])
    if kind.get_type().is_variable_str():
        raise ValueError(f"attribute {name} is text of variable length")
    return bytes(file.attrs[name])
