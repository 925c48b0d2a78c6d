"""Likelihood of values under a predicted Gaussian.

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from torch import Tensor

from policykd import divergences
from policykd.divergences import Gaussian, Reduction
from policykd.errors import ShapeError
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import Positive
from policykd.kd.shapes import check_logits


def split_gaussian(values: Tensor) -> Gaussian:
    """Split ``(B, 2 D)`` into means and log standard deviations ``(B, D)``.

    Raises:
        ShapeError: the number of columns is odd, or there are other axes.
    """
    check_logits(values)
    if values.shape[1] % 2:
        raise ShapeError(f"a Gaussian needs means and log standard deviations (B, 2 D), got {tuple(values.shape)}")
    mean, log_std = values.chunk(2, 1)
    return mean, log_std


@loss_function
def gaussian_nll(
    student: Tensor,
    target: Tensor,
    *,
    min_std: Positive = 1e-3,
    max_std: Positive = 1e3,
    reduction: Reduction = "mean",
) -> Tensor:
    """Fit values by a Gaussian whose spread the student predicts, too.

    ``sum_d log s_d + (y_d - m_d)**2 / (2 s_d**2) + log(2 pi) / 2``, s clamped to ``[min_std, max_std]``:
    :func:`policykd.divergences.gaussian_nll` as a term.

    Args:
        student: Means and log standard deviations, one after the other, ``(B, 2 D)``.
        target: Values ``(B, D)``.
        min_std: Smallest standard deviation, above 0.
        max_std: Largest standard deviation.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> gaussian_nll(torch.tensor([[0.0, 0.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
        tensor(2.8379)
    """
    gaussian = split_gaussian(student)
    return divergences.gaussian_nll(gaussian, target, min_std=min_std, max_std=max_std, reduction=reduction)


GaussianNLL = loss_module(gaussian_nll, "GaussianNLL", kinds=("regression",))
