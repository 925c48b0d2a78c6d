"""Squared error of values, with the labels or with a teacher's.

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from torch import Tensor

from policykd import divergences
from policykd.divergences import Reduction
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.shapes import check_logits


@loss_function
def mse(student: Tensor, teacher: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Regress values: those of a teacher, or the labels with ``MSE().against("labels")``.

    ``mean_d (s_d - t_d)**2``: :func:`policykd.divergences.mse` as a term. (On class logits the same loss and its
    variants are ``mse_logits``.)

    Args:
        student: Values ``(B, D)``.
        teacher: Values ``(B, D)`` of the teacher or of the labels, detached here.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or the reduction is unknown.

    Example:
        >>> import torch
        >>> mse(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.0]]))
        tensor(5.)
    """
    check_logits(student)
    return divergences.mse(student, teacher, reduction=reduction)


MSE = loss_module(mse, kinds=("regression",))
