"""Module twin of `policykd.kd.functional.cat_kd`."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.losses.base import KDLoss, Signal


class CATKD(KDLoss):
    """Class activation maps; equation, options and errors as in `policykd.kd.functional.cat_kd`."""

    name = "cat_kd"
    signal: ClassVar[Signal] = "maps"

    def __init__(self, *, pool_size: int | None = 2, reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        self.pool_size = pool_size

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of logit maps ``(B, C, H, W)``."""
        return kf.cat_kd(student, teacher, pool_size=self.pool_size, reduction=self.reduction)
