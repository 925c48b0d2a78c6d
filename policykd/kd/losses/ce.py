"""Cross-entropy with hard labels, label smoothing or soft targets.

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, prepare_tensor, reduce_loss
from policykd.errors import ConfigError, ShapeError
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import HalfOpenFraction, Rule
from policykd.kd.shapes import check_logits, prepare_target


def check_class_weights(name: str, weights: Sequence[float] | None) -> None:
    """Raise ConfigError unless the weights are None, or numbers of at least 0 that are not all 0."""
    if weights is not None and not (len(weights) and min(weights) >= 0 and 0 < sum(weights) < float("inf")):
        raise ConfigError(f"{name} must be numbers of at least 0, not all of them 0, got {weights!r}")


ClassWeights = Annotated[Sequence[float] | None, Rule(check_class_weights)]


@loss_function
def ce(
    student: Tensor,
    target: Tensor,
    *,
    label_smoothing: HalfOpenFraction = 0.0,
    class_weights: ClassWeights = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of the student with the labels, the supervised part of nearly every objective.

    ``-sum_c q_c log p_c`` with ``p = softmax(z)``; q is one-hot, a given distribution, or smoothed to
    ``(1 - e) q + e / C`` (Szegedy et al. 2016, section 7).

    Args:
        student: Logits ``(B, C)``.
        target: Class indices ``(B,)``, or probabilities ``(B, C)``.
        label_smoothing: e in [0, 1).
        class_weights: C weights, at least 0, by which the classes' terms are multiplied; None for equal ones. With them
            ``mean`` divides by the sum of the labels' weights, as torch does.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: logits are not a floating-point tensor.
        ValueError: wrong shape, a label out of range, soft labels that are not probabilities, a value that is not
            finite, or a bad option.

    Example:
        >>> import torch
        >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
        >>> ce(logits, labels, label_smoothing=0.1)
        tensor(0.2951)
    """
    student = prepare_tensor("student logits", student, min_dim=2)
    check_logits(student)
    target = prepare_target(student, target)
    if class_weights is None:
        values = F.cross_entropy(student, target, label_smoothing=label_smoothing, reduction="none")
        return reduce_loss(values, reduction)
    weight = _checked_weights(class_weights, student)
    kind = "sum" if reduction == "batchmean" else reduction
    value = F.cross_entropy(student, target, weight, label_smoothing=label_smoothing, reduction=kind)
    return value / len(student) if reduction == "batchmean" else value


def _checked_weights(class_weights: Sequence[float], student: Tensor) -> Tensor:
    weight = student.new_tensor(class_weights)
    if tuple(weight.shape) != (student.shape[1],):
        raise ShapeError(f"class_weights must be {student.shape[1]} numbers, one per class, got {len(class_weights)}")
    return weight


CE = loss_module(ce)
