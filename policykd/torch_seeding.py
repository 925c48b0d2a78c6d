"""Seeding torch often: once per step, turn or network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


@contextmanager
def seeded_torch(seed: int | None, devices: Sequence[int] | None = None) -> Iterator[None]:
    """Draw torch's random numbers in this block from a seed; after it, the caller's generators go on where they were.

    Args:
        seed: the seed; None to draw from the caller's generators.
        devices: indices of the accelerators whose generators are kept; None for all.
    """
    with torch.random.fork_rng(devices, enabled=seed is not None):
        if seed is not None:
            seed_torch(seed)
        yield


def seed_torch(seed: int) -> None:
    """Seed torch's global generators like ``torch.manual_seed``, to the same draws.

    Without an accelerator, ``torch.manual_seed`` queues a seed for devices that may be initialized later, together with
    the text of the whole call stack. This function then seeds the CPU's generator only.

    Args:
        seed: The seed.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(int(seed))
