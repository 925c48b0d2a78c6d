"""Variational information distillation (Ahn et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from policykd.divergences import Reduction, full_precision, prepare_pair, prepare_tensor, reduce_loss


@full_precision
def vid(student: Tensor, teacher: Tensor, variance: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Raise a lower bound of the mutual information between teacher and student features.

    ``1/2 mean_{c,h,w} [(t - mu)**2 / v_c + log v_c]``: the negative log-likelihood of the teacher under a Gaussian
    whose mean the student predicts, without the constant. Ahn et al., CVPR 2019, eq. 4 and 6.

    Departure: mean over elements instead of a sum, as in the published code. At ``t = mu`` the value is ``1/2 mean
    log v``, not 0.

    Args:
        student: The *predicted mean* ``mu``, ``(B, C, ...)``; the regressor lives in the module twin.
        teacher: Features of the same shape, detached here.
        variance: ``v_c > 0``, shape ``(C,)``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: shapes do not fit, a variance is not above 0, a value is not finite, or the reduction is unknown.
    """
    student, teacher = prepare_pair(student, teacher, what="features", min_dim=2)
    variance = prepare_tensor("variance", variance).to(student.dtype)
    if tuple(variance.shape) != (student.shape[1],) or bool((variance <= 0).any()):
        raise ValueError(f"variance must be {student.shape[1]} values above 0, got shape {tuple(variance.shape)}")
    variance = variance.reshape(1, -1, *[1] * (student.dim() - 2))
    values = 0.5 * ((teacher - student).square() / variance + torch.log(variance))
    return reduce_loss(values.flatten(1).mean(1), reduction)
