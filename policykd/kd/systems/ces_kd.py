"""Curriculum-based expert selection: each sample is taught by one expert, chosen by how hard the sample is.

Amara, Ziaeefard, Meyer, Gross, Clark, CES-KD (arXiv 2209.07606). Experts are ordered by capacity. Easy samples go to
small experts, hard ones to large experts, and the large ones are unlocked one after the other during training.

Departures: scoring, strata and pacing are our construction. Only the abstract was readable, so they follow its
sentences and not the authors' code.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from policykd.divergences import prepare_tensor
from policykd.errors import ConfigError, check_range
from policykd.kd.functional.shapes import check_labels


def difficulty(expert_logits: Tensor, target: Tensor) -> Tensor:
    """How hard every sample is for the experts: one minus their mean probability of its label.

    Args:
        expert_logits: ``(K, N, C)`` on clean inputs, experts in order of capacity.
        target: Labels ``(N,)``.

    Returns:
        ``(N,)`` in [0, 1], off the graph; lower is easier.

    Raises:
        ValueError: Shapes do not fit, or a value is not finite.
    """
    logits = _checked_experts(expert_logits)
    labels = check_labels(logits[0], target)
    confidence = logits.softmax(-1).mean(0).gather(1, labels[:, None])[:, 0]
    return 1.0 - confidence


def strata(scores: Tensor, experts: int) -> Tensor:
    """Cut samples into equal parts by rank of difficulty: ``floor(rank K / N)``.

    Args:
        scores: Difficulty ``(N,)``; only the order matters, ties go by position.
        experts: Number of experts K.

    Returns:
        Stratum of every sample ``(N,)`` in [0, K), 0 the easiest (the paper's counting from one, less one).

    Raises:
        ConfigError: K is below one.
        ValueError: Scores are no finite vector.
    """
    check_range("experts", experts, 1, float("inf"))
    scores = prepare_tensor("difficulty", scores)
    if scores.dim() != 1:
        raise ValueError(f"difficulty must be (N,), got {tuple(scores.shape)}")
    ranks = torch.empty(len(scores), dtype=torch.long, device=scores.device)
    ranks[scores.argsort(stable=True)] = torch.arange(len(scores), device=scores.device)
    return ranks * experts // len(scores)


def unlocked(epoch: float, *, experts: int, curriculum_epochs: float) -> int:
    """How many experts teach at an epoch: ``min(K, 1 + floor(K e / E_c))``, from the smallest one on.

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
    """The expert of every sample ``(N,)``: its stratum, or the largest expert that is unlocked.

    Args:
        stratum: From :func:`strata`.
        available: Number of unlocked experts, from :func:`unlocked`.

    Raises:
        ConfigError: No expert is unlocked.
    """
    check_range("available", available, 1, float("inf"))
    return stratum.clamp(max=available - 1)


def selected_logits(expert_logits: Tensor, expert: Tensor) -> Tensor:
    """The logits of each sample's own expert.

    Args:
        expert_logits: ``(K, B, C)``.
        expert: Position of the expert ``(B,)`` in [0, K).

    Returns:
        ``(B, C)``, off the graph.

    Raises:
        ValueError: Shapes do not fit, or a position is out of range.
    """
    logits = _checked_experts(expert_logits)
    count, batch, _ = logits.shape
    if expert.shape != (batch,):
        raise ValueError(
            f"expert must have shape ({batch},) for logits {tuple(logits.shape)}, got {tuple(expert.shape)}"
        )
    if int(expert.min()) < 0 or int(expert.max()) >= count:
        raise ValueError(f"expert must lie in [0, {count - 1}], got {int(expert.min())} to {int(expert.max())}")
    return logits.take_along_dim(expert[None, :, None], 0)[0]


def check_capacity_order(sizes: Sequence[float]) -> None:
    """Refuse experts that are not in ascending order of capacity (parameter counts or validation accuracies).

    Raises:
        ConfigError: They are not.
    """
    if any(later <= earlier for earlier, later in itertools.pairwise(sizes)):
        raise ConfigError(f"experts must come in ascending order of capacity, got {list(sizes)}")


def _checked_experts(expert_logits: Tensor) -> Tensor:
    logits = prepare_tensor("expert logits", expert_logits.detach())
    if logits.dim() != 3:
        raise ValueError(f"expert logits must be (K, N, C), got {tuple(logits.shape)}")
    return logits
