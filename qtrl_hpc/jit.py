"""How our Numba kernels are compiled, and kept on disk."""

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
from llvmlite import binding
from numba import njit

from qtrl_hpc import simd
from qtrl_hpc.errors import UserError

# Multiply-adds are contracted; sums keep their order, and NaN and infinity their meaning.
FAST = {"contract", "nsz"}

# Forced inline: left to the compiler, a kernel just compiled and the same one loaded from the disk gave other bits.
part = njit(forceinline=True, fastmath=FAST)

_kept: list[Callable[..., Any]] = []
_not_kept: list[str] = []


def kernel(function: Callable[..., Any], variant: str, *, parallel: bool = False) -> Callable[..., Any]:
    """Compile one variant of a kernel with Numba, and keep the machine code where any folder for it can be written.

    Each variant is called with arguments of the same types alone and has files of its own: two processes that compile
    at once for other types, or processors, would overwrite each other's machine code. And their names hang on the
    sources: Numba knows when the kernel's own file has changed, but not when one that it takes parts from has.

    Args:
        function: only calls ``part``s of its own module and ``qtrl_hpc.simd``.
        variant: its name, as part of a file's.
        parallel: whether ``prange`` is shared out over threads.
    """
    name = f"{function.__name__}_{variant}_{_digest(function.__code__.co_filename)}"
    function = FunctionType(function.__code__, function.__globals__, name)
    function.__qualname__ = name
    try:
        _kept.append(njit(cache=True, fastmath=FAST, parallel=parallel)(function))
    except RuntimeError:  # Numba finds no folder to keep it in
        _not_kept.append(name)
        return njit(fastmath=FAST, parallel=parallel)(function)
    return _kept[-1]


def keeps_kernels() -> bool:
    """Return whether all kernels so far could be kept on disk, or found there."""
    return not _not_kept


def kept_in() -> str | None:
    """Return the folder of the kernels that are kept on disk."""
    return next((kernel.stats.cache_path for kernel in _kept), None)  # type: ignore[attr-defined]


def check_cache_folder() -> None:
    """Refuse a folder for machine code that Numba would pass over without a word.

    Raises:
        UserError: ``NUMBA_CACHE_DIR`` names one that cannot be written to.
    """
    folder = os.environ.get("NUMBA_CACHE_DIR")
    if not folder:
        return
    try:
        os.makedirs(folder, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise UserError(f"NUMBA_CACHE_DIR: got {folder!r}, expected a folder that can be written to")


@cache
def _digest(path: str) -> str:
    """Return what machine code depends on besides its own function: sources, and the processor."""
    sources = [Path(source).read_bytes() for source in (path, simd.__file__, __file__)]
    processor = (
        numba.config.CPU_NAME or binding.get_host_cpu_name(),  # type: ignore[attr-defined]
        numba.config.CPU_FEATURES or binding.get_host_cpu_features().flatten(),  # type: ignore[attr-defined]
    )
    return hashlib.sha256(b"".join([*sources, *map(str.encode, processor)])).hexdigest()[:12]
