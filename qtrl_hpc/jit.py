"""How our Numba kernels are compiled."""

import warnings
from collections.abc import Callable
from types import FunctionType

from numba import njit

# Multiply-adds are contracted; sums keep their order, and NaN and infinity their meaning.
_FAST = {"contract", "nsz"}

# Forced inline: left to the compiler, a kernel just compiled and the same one loaded from the disk gave other bits.
part = njit(forceinline=True, fastmath=_FAST)


def kernel(function: Callable, *, parallel: bool = False) -> Callable:
    """Compile with Numba, and keep the machine code on disk where any folder for it can be written."""
    if parallel:  # a name of its own, as Numba's cache would take the other's machine code for it
        function = FunctionType(function.__code__, function.__globals__, f"{function.__name__}_parallel")
        function.__qualname__ = function.__name__
    try:
        return njit(cache=True, fastmath=_FAST, parallel=parallel)(function)
    except RuntimeError:
        warnings.warn(
            "Numba finds no folder to cache machine code in: every start compiles anew (set NUMBA_CACHE_DIR)",
            stacklevel=2,
        )
        return njit(fastmath=_FAST, parallel=parallel)(function)
