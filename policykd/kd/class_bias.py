"""The bias of a student's logits for classes that it never saw, chosen on validation data.

Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (arXiv 1503.02531), section 3. It takes
logits and labels, and trains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from policykd.errors import ConfigError, check_range
from policykd.kd.metrics import accuracy


def tune_bias(
    logits: Tensor, labels: Tensor, classes: Sequence[int], *, limit: float = 10.0, steps: int = 81
) -> Tensor:
    """Return the bias for classes that the transfer set lacks, chosen on validation data.

    Args:
        logits: Validation logits ``(N, C)``.
        labels: Validation labels ``(N,)``.
        classes: The classes that get one common constant.
        limit: Largest size of the constant.
        steps: Number of constants tried in [-limit, limit]; the most accurate one wins, then the smallest.

    Returns:
        The bias of the logits ``(C,)``.

    Raises:
        ConfigError: The class does not exist, or an option is out of range.
    """
    check_range("steps", steps, 2, 100_000)
    check_range("limit", limit, 0.0, 1e6)
    if not classes or not set(classes) < set(range(logits.shape[1])):
        raise ConfigError(f"classes must name some of 0 to {logits.shape[1] - 1}, got {tuple(classes)}")
    unit = torch.zeros(logits.shape[1], dtype=logits.dtype)
    unit[list(classes)] = 1.0
    constants = sorted(torch.linspace(-limit, limit, steps).tolist(), key=abs)
    best = max(constants, key=lambda constant: accuracy(logits + constant * unit, labels))
    return best * unit
