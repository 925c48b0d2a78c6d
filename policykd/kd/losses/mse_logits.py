"""Squared error on the raw logits (Ba and Caruana 2014).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from policykd.divergences import Reduction, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.shapes import prepare_logits


@loss_function
def mse_logits(
    student: Tensor,
    teacher: Tensor,
    *,
    variant: Literal["code", "paper", "centered"] = "code",
    reduction: Reduction = "mean",
) -> Tensor:
    """Regress the teacher's logits.

    Variants: ``paper`` ``1/2 sum_c (z_s - z_t)**2`` (Ba and Caruana 2014, eq. 1 [recalled]); ``code`` the mean over
    classes, as most libraries have it; ``centered`` ``sum_c (d_c - mean(d))**2 / (2 C)`` with ``d = z_s - z_t``, the
    high-temperature limit of KD, which ignores a constant added to all logits of a sample.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        variant: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is unknown.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 1.0, 4.0]])
        >>> mse_logits(student, teacher), mse_logits(student, teacher, variant="centered")
        (tensor(1.), tensor(0.4444))
    """
    student, teacher = prepare_logits(student, teacher)
    gap = student - teacher
    if variant == "paper":
        return reduce_loss(0.5 * gap.square().sum(1), reduction)
    if variant == "centered":
        return reduce_loss(0.5 * (gap - gap.mean(1, keepdim=True)).square().mean(1), reduction)
    return reduce_loss(gap.square().mean(1), reduction)


MSELogits = loss_module(mse_logits, "MSELogits", kinds=("single_label", "multi_label", "regression"))
