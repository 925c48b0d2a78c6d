"""Random training labels, seeded by purpose."""

from __future__ import annotations

import torch
from torch import Tensor

from policykd.errors import check_range
from policykd.seeding import generator


def redrawn_labels(labels: Tensor, share: float, *, classes: int, seed: int, purpose: str) -> Tensor:
    """Labels of which a share is drawn anew, uniformly from all classes, so that some stay right by chance.

    Args:
        labels: ``(N,)``.
        share: Probability that a label is drawn anew, in [0, 1].
        classes: Number of classes.
        seed: The cell's seed.
        purpose: What the noise is for; equal purposes give equal noise.

    Returns:
        ``(N,)``, a new tensor.

    Raises:
        ConfigError: The share lies outside [0, 1].
    """
    check_range("share", share, 0, 1)
    rng = generator(seed, "label noise", purpose)
    changed, drawn = rng.uniform(size=len(labels)) < share, rng.integers(0, classes, len(labels))
    return torch.where(torch.from_numpy(changed), torch.from_numpy(drawn), labels)
