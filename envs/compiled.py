"""Compiled loops: the decorator of every kernel of the simulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function of NumPy arrays for one signature, when its module is imported.

    The machine code is kept on disk beside the source, or in the user's cache folder where that is read-only; without
    either, every process compiles its own. With one signature per function, processes that compile at the same time
    write equal files, so it does not matter whose are kept.

    Args:
        signature: Numba's; arrays as ``float64[:, :]``, which takes views of any strides.
    """

    def compile_now(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(signature, cache=True, nogil=True)(function)
        except (RuntimeError, OSError):  # no folder to keep it in
            return numba.njit(signature, nogil=True)(function)

    return compile_now
