"""Module twin of `policykd.kd.functional.sp`."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.losses.base import GatheredLoss, Signal


class SP(GatheredLoss):
    """Similarity-preserving distillation; equation, options and errors as in `policykd.kd.functional.sp`.

    `gather_distributed` joins the batches of all processes.
    """

    name = "sp"
    signal: ClassVar[Signal] = "features"

    def __init__(self, *, reduction: Reduction = "mean", gather_distributed: bool = False) -> None:
        super().__init__(reduction=reduction, gather_distributed=gather_distributed)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of features ``(B, ...)``."""
        student, teacher = self._joined(student, teacher)
        return kf.sp(student, teacher, reduction=self.reduction)
