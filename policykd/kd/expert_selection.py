"""Which expert teaches which sample: experts in order of capacity, samples in order of difficulty, and their pacing.

Amara, Ziaeefard, Meyer, Gross, Clark, CES-KD (arXiv 2209.07606). Scoring, strata and pacing are our construction after
the abstract, which was all that could be read. The functions take tensors and train nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from policykd.divergences import prepare_tensor
from policykd.errors import ConfigError, check_range
from policykd.kd.ensembles import check_member_logits
from policykd.kd.shapes import check_labels


def difficulty(expert_logits: Tensor, target: Tensor) -> Tensor:
    """Return how hard every sample is for the experts: one minus their mean probability of its label.

    Args:
        expert_logits: ``(K, N, C)`` on clean inputs, experts in order of capacity.
        target: Labels ``(N,)``.

    Returns:
        ``(N,)`` in [0, 1], off the graph; lower is easier.

    Raises:
        ValueError: Shapes do not fit, or a value is not finite.
    """
    logits = check_member_logits(expert_logits)
    labels = check_labels(logits[0], target)
    confidence = logits.softmax(-1).mean(0).gather(1, labels[:, None])[:, 0]
    return 1.0 - confidence


def strata(scores: Tensor, experts: int) -> Tensor:
    """Return every sample's part of K equal parts by rank of difficulty: ``floor(rank K / N)``.

    Args:
        scores: Difficulty ``(N,)``; only the order matters, ties go by position.
        experts: Number of experts K.

    Returns:
        Stratum of every sample ``(N,)`` in [0, K), 0 the easiest: zero-based (the paper counts from one).

    Raises:
        ConfigError: K is below one.
        ValueError: Scores are not a finite vector.
    """
    check_range("experts", experts, 1, float("inf"))
    scores = prepare_tensor("difficulty", scores)
    if scores.dim() != 1:
        raise ValueError(f"difficulty must be (N,), got {tuple(scores.shape)}")
    ranks = torch.empty(len(scores), dtype=torch.long, device=scores.device)
    ranks[scores.argsort(stable=True)] = torch.arange(len(scores), device=scores.device)
    return ranks * experts // len(scores)


def unlocked(epoch: float, *, experts: int, curriculum_epochs: float) -> int:
    """Return how many experts teach at an epoch, counted from the smallest: ``min(K, 1 + floor(K e / E_c))``.

    Args:
        epoch: Epochs done.
        experts: Number of experts K.
        curriculum_epochs: E_c, epochs until the pacing has ended; 0 for no pacing.

    Raises:
        ConfigError: A negative epoch or length, or no expert.
    """
    check_range("epoch", epoch, 0, float("inf"))
    check_range("experts", experts, 1, float("inf"))
    check_range("curriculum_epochs", curriculum_epochs, 0, float("inf"))
    if epoch >= curriculum_epochs:
        return experts
    return min(experts, 1 + int(experts * epoch // curriculum_epochs))


def assigned(stratum: Tensor, available: int) -> Tensor:
    """Return the expert of every sample ``(N,)``: its stratum, or the largest expert that is unlocked.

    Args:
        stratum: From :func:`strata`.
        available: Number of unlocked experts, from :func:`unlocked`.

    Raises:
        ConfigError: No expert is unlocked.
    """
    check_range("available", available, 1, float("inf"))
    return stratum.clamp(max=available - 1)


def check_capacity_order(sizes: Sequence[float]) -> None:
    """Check that experts are in ascending order of capacity (parameter counts or validation accuracies).

    Raises:
        ConfigError: They are not.
    """
    if any(later <= earlier for earlier, later in itertools.pairwise(sizes)):
        raise ConfigError(f"experts must be in ascending order of capacity, got {list(sizes)}")
