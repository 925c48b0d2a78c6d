"""Distillation of the samples on which the teacher is right or not too wrong (Xu et al. 2020).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policykd.divergences import Reduction, categorical_kl
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import ClosedFraction, Temperature
from policykd.kd.shapes import check_labels, prepare_logits


def error_level(scores: Tensor, target: Tensor) -> Tensor:
    """Return the rank of the truth in the scores, 0 for the best; of equal scores the one of lower index comes first.

    Args:
        scores: ``(N, C)``.
        target: Right column ``(N,)``.

    Returns:
        ``(N,)`` in int64.
    """
    target = check_labels(scores, target)[:, None]
    own = scores.gather(1, target)
    first = torch.arange(scores.shape[1], device=scores.device) < target
    return ((scores > own) | ((scores == own) & first)).sum(1)


def select_rows(levels: Tensor, share: float) -> Tensor:
    """Select all rows with level 0 and the share of the others (rounded down) with the lowest levels.

    Args:
        levels: Error levels ``(N,)``; of equal levels earlier rows come first.
        share: k in [0, 1].

    Returns:
        Positions of the kept rows, in their order.

    Raises:
        ValueError: The share is out of range.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must be in [0, 1], got {share!r}")
    correct = int((levels == 0).sum())
    kept = correct + int(share * (len(levels) - correct))
    return levels.argsort(dim=0, stable=True)[:kept].sort().values


@loss_function
def selective_kd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    temperature: Temperature = 4.0,
    share: ClosedFraction = 0.75,
    reduction: Reduction = "mean",
) -> Tensor:
    """Distil the samples that the teacher gets right and, of the others, the share k on which it is least wrong.

    ``T**2 KL(softmax(z_t / T) || softmax(z_s / T))`` over the kept samples. A teacher is the more wrong, the more
    classes it prefers to the right one. The selective transfer of Xu, Liu, Li and Loy, Knowledge Distillation Meets
    Self-Supervision (ECCV 2020, arXiv 2006.07114), on any scores. Which samples are kept depends on the batch by
    definition; with ``share = 1`` it is ``kd``.

    Args:
        student: Scores ``(N, C)``: class logits, or similarities as in ``sskd``.
        teacher: Scores ``(N, C)``, detached here.
        target: Right column ``(N,)``, which orders the samples by the teacher's error.
        temperature: T > 0.
        share: k in [0, 1]; the number of wrong samples that are kept is rounded down.
        reduction: How the values of the kept samples are reduced, in their order; without any the value is 0.

    Raises:
        TypeError: scores are not floating-point, or labels not integers.
        ValueError: shapes differ, a label out of range, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
        >>> teacher = torch.tensor([[2.0, 1.0, 4.0], [3.0, 2.0, 0.0]])
        >>> selective_kd(student, teacher, torch.tensor([2, 2]), temperature=2.0, share=0.0)  # wrong on the second
        tensor(0.3026)
        >>> selective_kd(student, teacher, torch.tensor([2, 2]), temperature=2.0, share=1.0)
        tensor(1.0308)
    """
    student, teacher = prepare_logits(student, teacher)
    rows = select_rows(error_level(teacher, target), share)
    if not len(rows):
        nothing = student[rows].sum(1)
        return nothing if reduction == "none" else nothing.sum()
    if len(rows) < len(student):
        student, teacher = student[rows], teacher[rows]
    return categorical_kl(student, teacher, temperature=temperature, reduction=reduction)


SelectiveKD = loss_module(selective_kd, "SelectiveKD", batch_coupled=True)
