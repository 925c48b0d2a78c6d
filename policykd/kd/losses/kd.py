"""Module twin of `policykd.kd.functional.kd`."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from policykd.divergences import Reduction, check_temperature
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import check_choice
from policykd.kd.losses.base import KDLoss


class KD(KDLoss):
    """Knowledge distillation on softened logits; equation, options and errors as in `policykd.kd.functional.kd`."""

    name = "kd"

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        scale_t2: bool = True,
        variant: Literal["paper", "element_mean"] = "paper",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_choice("variant", variant, ("paper", "element_mean"))
        self.temperature = check_temperature(temperature)
        self.scale_t2 = scale_t2
        self.variant: Literal["paper", "element_mean"] = variant

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)``."""
        return kf.kd(
            student,
            teacher,
            temperature=self.temperature,
            scale_t2=self.scale_t2,
            variant=self.variant,
            reduction=self.reduction,
        )
