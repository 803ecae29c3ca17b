"""How our Numba kernels are compiled, and kept on disk."""

import hashlib
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType

from numba import njit

from qtrl_hpc import simd

# Multiply-adds are contracted; sums keep their order, and NaN and infinity their meaning.
_FAST = {"contract", "nsz"}

# Forced inline: left to the compiler, a kernel just compiled and the same one loaded from the disk gave other bits.
part = njit(forceinline=True, fastmath=_FAST)


def kernel(function: Callable, variant: str, *, parallel: bool = False) -> Callable:
    """Compile one variant of a kernel with Numba, and keep the machine code where any folder for it can be written.

    Each variant is called with arguments of the same types alone and has files of its own: two processes that compile
    at once for other types would overwrite each other's machine code. And their names hang on the sources: Numba knows
    when the kernel's own file has changed, but not when one that it takes parts from has.

    Args:
        function: only calls ``part``s of its own module and ``qtrl_hpc.simd``.
        variant: its name, as part of a file's.
        parallel: whether ``prange`` is shared out over threads.
    """
    name = f"{function.__name__}_{variant}_{_digest(function.__code__.co_filename)}"
    function = FunctionType(function.__code__, function.__globals__, name)
    function.__qualname__ = name
    try:
        return njit(cache=True, fastmath=_FAST, parallel=parallel)(function)
    except RuntimeError:
        warnings.warn(
            "Numba finds no folder to cache machine code in: every start compiles anew (set NUMBA_CACHE_DIR)",
            stacklevel=2,
        )
        return njit(fastmath=_FAST, parallel=parallel)(function)


@cache
def _digest(path: str) -> str:
    sources = [Path(source).read_bytes() for source in (path, simd.__file__, __file__)]
    return hashlib.sha256(b"".join(sources)).hexdigest()[:12]
