"""NumPy's ``.npy`` of numbers: read without unpickling, and allocating nothing by what a header claims."""

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LONGEST_HEADER = 10_000
_VERSION = (1, 0)


def encode(array: NDArray[Any]) -> bytes:
    """Return the bytes of a file."""
    content = io.BytesIO()
    np.lib.format.write_array(content, array, version=_VERSION)
    return content.getvalue()


def decode(content: bytes) -> NDArray[Any]:
    """Return the array that a file holds, as a view of ``content``.

    Raises:
        ValueError: it is no whole file of numbers.
    """
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in (_VERSION, (2, 0)):
        raise ValueError(f"version {version}")
    read = np.lib.format.read_array_header_1_0 if version == _VERSION else np.lib.format.read_array_header_2_0
    try:
        shape, fortran_order, dtype = read(stream, max_header_size=_LONGEST_HEADER)
    except Exception as error:  # NumPy has Python's tokenizer and parser read it, which raise what they like
        raise ValueError(f"its header cannot be read: {error}") from error
    if dtype.kind not in "biuf":
        raise ValueError(f"its elements are {dtype}")
    start = stream.tell()
    if math.prod(shape) * dtype.itemsize != len(content) - start:
        raise ValueError(f"shape {shape} of {dtype} is not what it has")
    try:
        return np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if fortran_order else "C")
    except OverflowError as error:  # no numbers, in axes of which one is huge
        raise ValueError(f"shape {shape}") from error
