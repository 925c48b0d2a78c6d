"""Module twin of `policykd.kd.functional.rkd`."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.losses.base import GatheredLoss, Signal


class RKD(GatheredLoss):
    """Relational distillation of distances and angles; equation, options and errors as in `policykd.kd.functional.rkd`.

    `gather_distributed` joins the batches of all processes.
    """

    name = "rkd"
    signal: ClassVar[Signal] = "features"

    def __init__(
        self,
        *,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        reduction: Reduction = "mean",
        gather_distributed: bool = False,
    ) -> None:
        super().__init__(reduction=reduction, gather_distributed=gather_distributed)
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of features ``(B, ...)``."""
        student, teacher = self._joined(student, teacher)
        return kf.rkd(
            student,
            teacher,
            distance_weight=self.distance_weight,
            angle_weight=self.angle_weight,
            reduction=self.reduction,
        )
