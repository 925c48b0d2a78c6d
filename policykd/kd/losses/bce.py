"""Binary cross-entropy with independent labels.

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, prepare_tensor, reduce_loss
from policykd.errors import ConfigError, ShapeError
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import Rule
from policykd.kd.shapes import check_logits


def check_positive_weights(name: str, weights: Sequence[float] | None) -> None:
    """Raise ConfigError unless the weights are None, or numbers above 0."""
    if weights is not None and not (len(weights) and min(weights) > 0):
        raise ConfigError(f"{name} must be numbers above 0, got {weights!r}")


PositiveWeights = Annotated[Sequence[float] | None, Rule(check_positive_weights)]


@loss_function
def bce(
    student: Tensor, target: Tensor, *, positive_weights: PositiveWeights = None, reduction: Reduction = "mean"
) -> Tensor:
    """Cross-entropy of every label by itself, the supervised part of multi-label objectives.

    ``mean_c -(w_c q_c log p_c + (1 - q_c) log(1 - p_c))`` with ``p = sigmoid(z)``: the usual loss of independent
    labels, whose softened form with a teacher is ``binary_kd``.

    Args:
        student: Logits ``(B, C)``.
        target: 0 and 1 of any type, or probabilities, ``(B, C)``.
        positive_weights: C weights w of the present labels, above 0, against imbalance; None for 1.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: logits are not a floating-point tensor.
        ValueError: shapes differ, a label is outside [0, 1], a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> bce(torch.tensor([[0.0, 2.0]]), torch.tensor([[1, 0]]))
        tensor(1.4100)
    """
    student = prepare_tensor("student logits", student, min_dim=2)
    check_logits(student)
    if target.shape != student.shape:
        raise ShapeError(f"labels must be {tuple(student.shape)}, one per logit, got {tuple(target.shape)}")
    target = target.to(student.dtype)
    if not bool((target.amin() >= 0) & (target.amax() <= 1)):
        raise ValueError(f"labels must be in [0, 1], got {float(target.amin()):.4g} to {float(target.amax()):.4g}")
    weights = None if positive_weights is None else _per_label(positive_weights, student)
    values = F.binary_cross_entropy_with_logits(student, target, pos_weight=weights, reduction="none")
    return reduce_loss(values.mean(1), reduction)


def _per_label(weights: Sequence[float], student: Tensor) -> Tensor:
    if len(weights) != student.shape[1]:
        raise ShapeError(f"positive_weights must be {student.shape[1]} numbers, one per label, got {len(weights)}")
    return torch.tensor(weights, dtype=student.dtype, device=student.device)


BCE = loss_module(bce, kinds=("multi_label",))
