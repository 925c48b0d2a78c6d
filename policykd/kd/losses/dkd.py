"""Module twin of `policykd.kd.functional.dkd`."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from policykd.divergences import Reduction, check_temperature
from policykd.kd import functional as kf
from policykd.kd.losses.base import KDLoss


class DKD(KDLoss):
    """Decoupled distillation; equation, options and errors as in `policykd.kd.functional.dkd`."""

    name = "dkd"
    inputs: ClassVar[tuple[str, ...]] = ("student", "teacher", "target")

    def __init__(
        self,
        *,
        tckd_weight: float = 1.0,
        nckd_weight: float = 8.0,
        temperature: float = 4.0,
        scale_t2: bool = True,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.tckd_weight = tckd_weight
        self.nckd_weight = nckd_weight
        self.temperature = check_temperature(temperature)
        self.scale_t2 = scale_t2

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)``."""
        return kf.dkd(
            student,
            teacher,
            target,
            tckd_weight=self.tckd_weight,
            nckd_weight=self.nckd_weight,
            temperature=self.temperature,
            scale_t2=self.scale_t2,
            reduction=self.reduction,
        )
