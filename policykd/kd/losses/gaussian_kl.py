"""Divergence between predicted Gaussians.

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from torch import Tensor

from policykd import divergences
from policykd.divergences import Direction, Reduction
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.losses.gaussian_nll import split_gaussian


@loss_function
def gaussian_kl(
    student: Tensor, teacher: Tensor, *, direction: Direction = "forward", reduction: Reduction = "mean"
) -> Tensor:
    """Match the teacher's predicted mean and spread.

    ``KL(teacher || student)`` of diagonal Gaussians, ``reverse`` for ``KL(student || teacher)``:
    :func:`policykd.divergences.gaussian_kl` as a term, the loss that policy distillation uses on actions.

    Args:
        student: Means and log standard deviations, one after the other, ``(B, 2 D)``.
        teacher: The same of the teacher, detached here.
        direction: ``forward`` or ``reverse``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, a value is not finite, or an option is unknown.

    Example:
        >>> import torch
        >>> gaussian_kl(torch.tensor([[0.0, 0.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
        tensor(1.)
    """
    return divergences.gaussian_kl(
        split_gaussian(student), split_gaussian(teacher), direction=direction, reduction=reduction
    )


GaussianKL = loss_module(gaussian_kl, "GaussianKL", kinds=("regression",))
