"""Module twin of `policykd.kd.functional.lskd`."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from policykd.divergences import Reduction, check_temperature
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import check_choice
from policykd.kd.losses.base import KDLoss


class LSKD(KDLoss):
    """Distillation of standardized logits; equation, options and errors as in `policykd.kd.functional.lskd`."""

    name = "lskd"

    def __init__(
        self,
        *,
        temperature: float = 2.0,
        scale_t2: bool = True,
        variant: Literal["paper", "code"] = "paper",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_choice("variant", variant, ("paper", "code"))
        self.temperature = check_temperature(temperature)
        self.scale_t2 = scale_t2
        self.variant: Literal["paper", "code"] = variant

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)``."""
        return kf.lskd(
            student,
            teacher,
            temperature=self.temperature,
            scale_t2=self.scale_t2,
            variant=self.variant,
            reduction=self.reduction,
        )
