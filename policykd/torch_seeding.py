"""Seeding torch often: once per step, turn or network."""

from __future__ import annotations

import torch


def seed_torch(seed: int) -> None:
    """Seed torch's global generators like ``torch.manual_seed``, to the same draws.

    Without an accelerator, ``torch.manual_seed`` notes the seed for devices that might still come, with the text of the
    whole stack, which takes it a millisecond. Here, the CPU's generator alone is seeded then.

    Args:
        seed: The seed.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
