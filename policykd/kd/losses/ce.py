"""Cross-entropy with hard labels, label smoothing or soft targets."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, prepare_pair, prepare_tensor, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import HalfOpenFraction
from policykd.kd.shapes import check_labels


@loss_function
def ce(
    student: Tensor, target: Tensor, *, label_smoothing: HalfOpenFraction = 0.0, reduction: Reduction = "mean"
) -> Tensor:
    """Cross-entropy of the student with the labels, the supervised part of nearly every objective.

    ``-sum_c q_c log p_c`` with ``p = softmax(z)``; q is one-hot, a given distribution, or smoothed to
    ``(1 - e) q + e / C`` (Szegedy et al. 2016, section 7).

    Args:
        student: Logits ``(B, C)``.
        target: Class indices ``(B,)``, or probabilities ``(B, C)``.
        label_smoothing: e in [0, 1).
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: logits are not a floating-point tensor.
        ValueError: wrong shape, a label out of range, a value that is not finite, or a bad option.

    Example:
        >>> import torch
        >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
        >>> ce(logits, labels, label_smoothing=0.1)
        tensor(0.2951)
    """
    if isinstance(target, Tensor) and target.is_floating_point():
        student, target = prepare_pair(student, target, what="class probabilities", min_dim=2)
    else:
        student = prepare_tensor("student logits", student, min_dim=2)
        target = check_labels(student, target)
    return reduce_loss(F.cross_entropy(student, target, label_smoothing=label_smoothing, reduction="none"), reduction)


CE = loss_module(ce)
