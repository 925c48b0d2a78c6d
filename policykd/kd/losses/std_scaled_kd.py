"""Logits divided by their standard deviation, so that every sample sets its own temperature (Choi et al. 2023).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import categorical_kl
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.losses.lskd import standardize
from policykd.kd.shapes import prepare_logits, prepare_target


def std_scaled(logits: Tensor) -> Tensor:
    """Return logits ``(B, C)`` centered and divided by their standard deviation over classes (divisor C - 1).

    Softmax does not see the centering; the division is a temperature of each sample's own, and it bounds how sharp the
    distribution can be: no entry exceeds ``(C - 1) / sqrt(C)``.
    """
    return standardize(logits, variant="code", eps=1e-6)


@loss_function
def std_scaled_kd(
    student: Tensor, teacher: Tensor, target: Tensor, *, ce_weight: float = 0.1, kd_weight: float = 0.9
) -> Tensor:
    """Match labels and teacher on logits that are scaled by their standard deviations.

    ``ce_weight CE(u, y) + kd_weight KL(softmax(w) || softmax(u))`` with ``u = z_s / std(z_s)``, ``w = z_t / std(z_t)``:
    no temperature, no ``T**2``; the gradient flows through the student's standard deviation. Choi, Jeon, Shukla,
    Turaga, Understanding the Role of Mixup in Knowledge Distillation, WACV 2023, arXiv 2211.03946.

    Departure: constant logits stay constant instead of becoming NaN.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)`` for the same, possibly mixed, inputs; detached here.
        target: Labels ``(B,)`` or label distributions ``(B, C)``.
        ce_weight: Weight of the cross-entropy.
        kd_weight: Weight of the divergence.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ or a value is not finite.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[0.0, 1.0, 5.0]])
        >>> std_scaled_kd(student, teacher, torch.tensor([[0.7, 0.0, 0.3]]))
        tensor(0.1750)
    """
    student, teacher = prepare_logits(student, teacher)
    target = prepare_target(student, target)
    u, w = std_scaled(student), std_scaled(teacher)
    return ce_weight * F.cross_entropy(u, target) + kd_weight * categorical_kl(u, w)


StdScaledKD = loss_module(std_scaled_kd, "StdScaledKD")
