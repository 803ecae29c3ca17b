"""The safetensors container: text by name and arrays by name, read only where its header is small enough to trust."""

import json
import struct
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save

LONGEST_HEADER = 2**21  # bytes of JSON; as Python's objects it may take twenty times that


def encode(texts: dict[str, str], arrays: dict[str, NDArray[np.float64]]) -> bytes:
    """Return the bytes of a file.

    Args:
        texts: its ``__metadata__``.
        arrays: its tensors, float64.
    """
    return save({name: np.ascontiguousarray(array, np.float64) for name, array in arrays.items()}, texts)


def decode(content: bytes) -> tuple[dict[str, str], dict[str, NDArray[np.float64]]]:
    """Return what ``encode`` was given; the arrays are views of ``content``.

    Raises:
        ValueError: saying what the file holds that ours do not.
    """
    if len(content) < 8:
        raise ValueError("it ends too early")
    (length,) = struct.unpack("<Q", content[:8])
    if length > LONGEST_HEADER:
        raise ValueError(f"its header claims {length} bytes, more than {LONGEST_HEADER}")
    try:
        safetensors.deserialize(content)  # every range lies inside, none overlaps, none is left out
    except safetensors.SafetensorError as error:
        raise ValueError(f"{error}") from None
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    texts = header.pop("__metadata__", {})
    return texts, {name: _array(content, 8 + length, name, entry) for name, entry in header.items()}


def _array(content: bytes, data: int, name: str, entry: dict[str, Any]) -> NDArray[np.float64]:
    if entry["dtype"] != "F64":
        raise ValueError(f"{name[:80]} is no float64 array")
    start, end = entry["data_offsets"]
    array: NDArray[np.float64] = np.frombuffer(content, "<f8", (end - start) // 8, data + start).reshape(entry["shape"])
    return array
