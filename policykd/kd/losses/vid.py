"""Module twin of `policykd.kd.functional.vid`, with the regressor and the variances."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import check_positive, match_size
from policykd.kd.losses.base import KDLoss, Signal


class VID(KDLoss):
    """Variational information distillation of one level; equation and errors as in `policykd.kd.functional.vid`.

    The mean comes from three 1 x 1 convolutions with ReLU between them, the variance of channel c is ``softplus(a_c)
    + eps``; both are trained. (A port keeps the ``a_c`` in a plain list, where no optimizer finds them.)

    Args:
        student_channels: Channels of the student's map.
        teacher_channels: Channels of the teacher's map.
        mid_channels: Width between the convolutions; the teacher's by default.
        initial_variance: Variance at the start.
        eps: Smallest variance.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "vid"
    signal: ClassVar[Signal] = "features"

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        *,
        mid_channels: int | None = None,
        initial_variance: float = 5.0,
        eps: float = 1e-5,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_positive(eps=eps, initial_variance=initial_variance - eps)
        mid = teacher_channels if mid_channels is None else mid_channels
        self.regressor = nn.Sequential(
            nn.Conv2d(student_channels, mid, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(mid, mid, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(mid, teacher_channels, 1, bias=False),
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
        return kf.vid(self.regressor(student), teacher, self.variance, reduction=self.reduction)
