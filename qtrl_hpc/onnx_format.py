"""What an ONNX file says and weighs, read without running its graph.

A model of somebody else's is data here and no program: of its protobuf messages the text and the named float64 arrays
are read, by their places in the file; nodes are skipped, and arrays that are kept in other files are refused. Nothing
is allocated by what a message claims, only by what the file has.
"""

import math
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

MOST_FIELDS = 100_000
MOST_DIMENSIONS = 32

# Numbers of fields (onnx.proto): ModelProto, GraphProto, StringStringEntryProto, TensorProto.
_GRAPH, _METADATA = 7, 14
_INITIALIZER = 5
_KEY, _VALUE = 1, 2
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 1, 2, 8, 9, 13, 14
_DOUBLE = 11

# Wire types (Protocol Buffers, Encoding).
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_Value = int | memoryview
_Kept = TypeVar("_Kept")


def decode(content: bytes) -> tuple[dict[str, str], dict[str, NDArray[np.float64]]]:
    """Return a model's ``metadata_props``, and its float64 initializers as views of ``content``.

    Raises:
        ValueError: it is no such model, or keeps its numbers elsewhere or otherwise.
    """
    left = [MOST_FIELDS]
    texts: dict[str, str] = {}
    arrays: dict[str, NDArray[np.float64]] = {}
    graphs = 0
    for number, value in _fields(memoryview(content), left):
        if number == _METADATA:
            entry = dict(_fields(_message(value), left))
            _add(texts, _text(entry.get(_KEY, memoryview(b""))), _text(entry.get(_VALUE, memoryview(b""))))
        elif number == _GRAPH:
            graphs += 1
            for part, inner in _fields(_message(value), left):
                if part == _INITIALIZER and (found := _initializer(_message(inner), left)) is not None:
                    _add(arrays, *found)
    if graphs != 1:
        raise ValueError(f"it has {graphs} graphs")
    return texts, arrays


def _add(found: dict[str, _Kept], name: str, value: _Kept) -> None:
    if name in found:
        raise ValueError(f"it names {name[:80]!r} twice")
    found[name] = value


def _initializer(tensor: memoryview, left: list[int]) -> tuple[str, NDArray[np.float64]] | None:
    """Return an array's name and numbers; None where they are no float64."""
    dims: list[int] = []
    kind, name, raw = 0, "", memoryview(b"")
    for number, value in _fields(tensor, left):
        if number == _DIMS:
            dims += [value] if isinstance(value, int) else _packed(value)
        elif number == _DATA_TYPE and isinstance(value, int):
            kind = value
        elif number == _NAME:
            name = _text(value)
        elif number == _RAW_DATA:
            raw = _message(value)
        elif number in (_EXTERNAL_DATA, _DATA_LOCATION):
            raise ValueError("it keeps numbers in another file")
    if kind != _DOUBLE:
        return None
    if len(dims) > MOST_DIMENSIONS or 8 * math.prod(dims) != len(raw):
        raise ValueError(f"{name[:80]!r} has another shape than numbers")
    return name, np.frombuffer(raw, "<f8").reshape(dims)


def _fields(message: memoryview, left: list[int]) -> Iterator[tuple[int, _Value]]:
    """Yield the number and value of each field of a message, as long as ``left`` lets it."""
    place = 0
    while place < len(message):
        left[0] -= 1
        if left[0] < 0:
            raise ValueError(f"it has more than {MOST_FIELDS} fields")
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire == _BYTES:
            size, place = _varint(message, place)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"a field is of wire type {wire}")
        if size > len(message) - place:
            raise ValueError("a field is longer than the file")
        yield number, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return a number of variable length, and where it ends."""
    value = 0
    for shift in range(0, 64, 7):
        if place >= len(message):
            raise ValueError("it ends too early")
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number has more than 64 bits")


def _packed(message: memoryview) -> list[int]:
    values, place = [], 0
    while place < len(message):
        value, place = _varint(message, place)
        values.append(value)
        if len(values) > MOST_DIMENSIONS:
            raise ValueError(f"an array has more than {MOST_DIMENSIONS} dimensions")
    return values


def _message(value: _Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a field is a number where a message is due")
    return value


def _text(value: _Value) -> str:
    return bytes(_message(value)).decode()
