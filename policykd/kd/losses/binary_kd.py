"""Distillation of independent labels, as of a multi-label tagger.

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import Temperature
from policykd.kd.shapes import prepare_logits


@loss_function
def binary_kd(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: Temperature = 2.0,
    scale_t2: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """Match the teacher's softened probability of every label by itself.

    ``BCE(sigmoid(z_s / T), sigmoid(z_t / T))``, the mean over labels: the baseline of Chang et al. 2020 for taggers. A
    cross-entropy: at ``student = teacher`` its value is the teacher's entropy and its gradient is zero.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        temperature: T > 0.
        scale_t2: Multiply by ``T**2``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> binary_kd(torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, -1.0]]))
        tensor(0.7392)
    """
    student, teacher = prepare_logits(student, teacher)
    soft = torch.sigmoid(teacher / temperature)
    values = F.binary_cross_entropy_with_logits(student / temperature, soft, reduction="none").mean(-1)
    return reduce_loss(values * temperature**2 if scale_t2 else values, reduction)


BinaryKD = loss_module(binary_kd, "BinaryKD", kinds=("single_label", "multi_label"))
