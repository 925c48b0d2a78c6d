"""Variational information distillation (Ahn et al. 2019).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction, prepare_pair, prepare_tensor, reduce_loss
from policykd.errors import ConfigError
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._connectors import Dims, convolution
from policykd.kd.losses._function import loss_function
from policykd.kd.options import check_positive
from policykd.kd.shapes import match_size


@loss_function
def vid(student: Tensor, teacher: Tensor, variance: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Raise a lower bound of the mutual information between teacher and student features.

    ``1/2 mean_{c,h,w} [(t - mu)**2 / v_c + log v_c]``: the negative log-likelihood of the teacher under a Gaussian
    whose mean the student predicts, without the constant. Ahn et al., CVPR 2019, eq. 4 and 6.

    Departure: mean over elements instead of a sum, as in the published code. At ``t = mu`` the value is ``1/2 mean
    log v``, not 0.

    Args:
        student: The *predicted mean* ``mu``, ``(B, C, ...)``; the regressor is part of the module.
        teacher: Features of the same shape, detached here.
        variance: ``v_c > 0``, shape ``(C,)``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, a variance is not above 0, a value is not finite, or the reduction is unknown.

    Example:
        >>> import torch
        >>> mean, teacher = torch.zeros(1, 2, 1, 1), torch.ones(1, 2, 1, 1)
        >>> vid(mean, teacher, torch.tensor([1.0, 4.0]))
        tensor(0.6591)
    """
    student, teacher = prepare_pair(student, teacher, what="features", min_dim=2)
    variance = prepare_tensor("variance", variance).to(student.dtype)
    if tuple(variance.shape) != (student.shape[1],) or bool((variance <= 0).any()):
        raise ValueError(f"variance must be {student.shape[1]} values above 0, got shape {tuple(variance.shape)}")
    variance = variance.reshape(1, -1, *[1] * (student.dim() - 2))
    values = 0.5 * ((teacher - student).square() / variance + torch.log(variance))
    return reduce_loss(values.flatten(1).mean(1), reduction)


class VID(KDLoss):
    """Variational information distillation of one level; equation and errors: :func:`vid`.

    The mean comes from three 1 x 1 convolutions with ReLU between them, the variance of channel c is ``softplus(a_c)
    + eps``; both are trained. (A port keeps the ``a_c`` in a plain list, where no optimizer finds them.)

    Args:
        student_channels: Channels of the student's map.
        teacher_channels: Channels of the teacher's map.
        mid_channels: Width between the convolutions; the teacher's by default.
        initial_variance: Variance at the start.
        eps: Smallest variance.
        dims: 2 for maps ``(B, C, H, W)``, 1 for ``(B, C, L)``.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "vid"
    signal: ClassVar[Signal] = "features"
    channels_first: ClassVar[bool] = True

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        *,
        mid_channels: int | None = None,
        initial_variance: float = 5.0,
        eps: float = 1e-5,
        dims: Dims = 2,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_positive(eps=eps)
        if not initial_variance > eps:
            raise ConfigError(f"initial_variance must be above eps ({eps!r}), got {initial_variance!r}")
        mid = teacher_channels if mid_channels is None else mid_channels
        self.regressor = nn.Sequential(
            convolution(dims, student_channels, mid, 1, bias=False),
            nn.ReLU(),
            convolution(dims, mid, mid, 1, bias=False),
            nn.ReLU(),
            convolution(dims, mid, teacher_channels, 1, bias=False),
        )
        start = math.log(math.expm1(initial_variance - eps))
        self.scale = nn.Parameter(torch.full((teacher_channels,), start))
        self.eps = eps

    @property
    def variance(self) -> Tensor:
        """Variances ``(C,)``; softplus, because ``log(1 + exp)`` overflows."""
        return F.softplus(self.scale) + self.eps

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of feature maps ``(B, C_s, H, W)`` and ``(B, C_t, H', W')``."""
        student, teacher = match_size(student, teacher)
        return vid(self.regressor(student), teacher, self.variance, reduction=self.reduction)
