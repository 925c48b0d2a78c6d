"""Seeding torch often: once per step, turn or network."""

from __future__ import annotations

import torch


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
