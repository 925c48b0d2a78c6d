"""Seeds keyed by what they are for, never by arrival order, so that a run can be split, resumed and repeated."""

from __future__ import annotations

import zlib

import numpy as np


def seed_sequence(seed: int, *key: str | int) -> np.random.SeedSequence:
    """Seed sequence of one purpose.

    Args:
        seed: the run's seed, >= 0.
        key: what the stream is for, for example ``("biped/steps", "tracks", 3)``. Equal keys give equal streams,
            different keys give independent ones.

    Returns:
        A NumPy SeedSequence.
    """
    words = tuple(zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key)
    return np.random.SeedSequence(entropy=seed, spawn_key=words)


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """NumPy random generator of one purpose; see :func:`seed_sequence`."""
    return np.random.default_rng(seed_sequence(seed, *key))


def integer_seed(seed: int, *key: str | int) -> int:
    """A 31-bit integer seed of one purpose, for libraries that want an int; see :func:`seed_sequence`."""
    return int(seed_sequence(seed, *key).generate_state(1)[0] & 0x7FFFFFFF)
