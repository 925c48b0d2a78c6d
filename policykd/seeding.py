"""Seeds keyed by purpose, never by order of use, so that a run can be split, resumed and repeated.

It uses NumPy alone and keeps no state.
"""

from __future__ import annotations

import zlib

import numpy as np

from policykd.errors import ConfigError


def seed_sequence(seed: int, *key: str | int) -> np.random.SeedSequence:
    """Return the seed sequence for one purpose.

    Args:
        seed: seed of the run, >= 0.
        key: purpose of the stream, for example ``("biped/steps", "tracks", 3)``. Equal keys give equal streams,
            different keys give independent ones.

    Returns:
        A NumPy SeedSequence.

    Raises:
        ConfigError: for a negative seed.
    """
    if seed < 0:
        raise ConfigError(f"seed is {seed}; it must be at least 0")
    words = tuple(zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key)
    return np.random.SeedSequence(entropy=seed, spawn_key=words)


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """Return the NumPy random generator for one purpose; see :func:`seed_sequence`."""
    return np.random.default_rng(seed_sequence(seed, *key))


def integer_seed(seed: int, *key: str | int) -> int:
    """Return a 31-bit integer seed for one purpose, for libraries that take an int; see :func:`seed_sequence`."""
    return int(seed_sequence(seed, *key).generate_state(1)[0] & 0x7FFFFFFF)
