"""Distillation of independent (multi-label) outputs by binary cross-entropy with the teacher's probabilities.

Logits in, a loss out; for exclusive classes use ``policykd.kd.functional.kd``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, check_temperature, full_precision, prepare_pair, reduce_loss


@full_precision
def binary_kd(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 2.0,
    scale_t2: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """Distil independent labels: ``BCE(sigmoid(z_s / T), sigmoid(z_t / T))``, the mean over labels.

    A cross-entropy: at ``student = teacher`` its value is the teacher's entropy and its gradient is zero.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        temperature: T > 0.
        scale_t2: Multiply by ``T**2``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is out of range.
    """
    check_temperature(temperature)
    student, teacher = prepare_pair(student, teacher, min_dim=2)
    soft = torch.sigmoid(teacher / temperature)
    values = F.binary_cross_entropy_with_logits(student / temperature, soft, reduction="none").mean(-1)
    return reduce_loss(values * temperature**2 if scale_t2 else values, reduction)
