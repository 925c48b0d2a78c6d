"""Compilation of the simulation's kernels with Numba.

Every module with kernels imports its decorator from here; it knows no kernel itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled_at_first_use(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function with Numba for the types of its first call, for arguments that a signature cannot name.

    The machine code is cached as by :func:`compiled`.
    """
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except (RuntimeError, OSError):  # no writable cache folder
        return numba.njit(nogil=True)(function)


def compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function of NumPy arrays for one signature, when its module is imported.

    The machine code is cached next to the source file, or in the user's cache folder if the source folder is read-only;
    without either, every process compiles. With one signature per function, processes that compile at the same time
    write equal files, so concurrent writes are harmless.

    Args:
        signature: Numba signature; an array type such as ``float64[:, :]`` accepts views of any strides.
    """

    def compile_now(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(signature, cache=True, nogil=True)(function)
        except (RuntimeError, OSError):  # no writable cache folder
            return numba.njit(signature, nogil=True)(function)

    return compile_now
