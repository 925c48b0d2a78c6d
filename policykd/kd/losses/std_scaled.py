"""Distillation on logits divided by their standard deviation (Choi, Jeon, Shukla and Turaga, WACV 2023)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import categorical_kl, full_precision, prepare_pair
from policykd.kd.losses.lskd import standardize


def std_scaled(logits: Tensor) -> Tensor:
    """Return logits ``(B, C)`` centered and divided by their standard deviation over classes (divisor C - 1).

    Softmax does not depend on the centering; the division is a temperature per sample, and it bounds how sharp the
    distribution can be: no entry exceeds ``(C - 1) / sqrt(C)``.
    """
    return standardize(logits, variant="code", eps=1e-6)


@full_precision
def std_scaled_loss(
    student: Tensor, teacher: Tensor, target: Tensor, *, ce_weight: float = 0.1, kd_weight: float = 0.9
) -> Tensor:
    """Return ``ce_weight CE(u, y) + kd_weight KL(softmax(w) || softmax(u))`` for scaled logits u and w.

    The gradient flows through the student's standard deviation. No temperature, no ``T**2``.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)`` for the same, mixed, inputs; detached here.
        target: Labels ``(B,)`` or label distributions ``(B, C)``.
        ce_weight: Weight of the cross-entropy.
        kd_weight: Weight of the divergence.

    Raises:
        TypeError: An input is not a floating-point tensor.
        ValueError: Shapes differ or a value is not finite.
    """
    student, teacher = prepare_pair(student, teacher, min_dim=2)
    u, w = std_scaled(student), std_scaled(teacher)
    return ce_weight * F.cross_entropy(u, target) + kd_weight * categorical_kl(u, w)
