"""Numbers of worlds on a CUDA device, where each number compiles kernels of its own. Loads no torch."""

from __future__ import annotations

LEAST = 64
"""Smallest number of worlds; a device takes as long for fewer."""

LARGE = 4096
"""Numbers above this are rounded up to multiples of it, smaller ones to powers of two."""


def round_worlds(count: int) -> int:
    """Return a number of worlds rounded up, so that training, validation, merging and measuring share kernels.

    Args:
        count: simulations that are needed, at least 1.
    """
    if count > LARGE:
        return -(-count // LARGE) * LARGE
    return max(LEAST, 1 << (count - 1).bit_length())
