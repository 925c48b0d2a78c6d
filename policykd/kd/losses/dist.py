"""Module twin of `policykd.kd.functional.dist`."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from policykd.divergences import Reduction, check_temperature
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import check_choice
from policykd.kd.losses.base import GatheredLoss


class DIST(GatheredLoss):
    """Correlation within and between samples; equation, options and errors as in `policykd.kd.functional.dist`.

    `gather_distributed` joins the batches of all processes.
    """

    name = "dist"

    def __init__(
        self,
        *,
        inter_weight: float = 1.0,
        intra_weight: float = 1.0,
        temperature: float = 1.0,
        scale_t2: bool = True,
        variant: Literal["paper", "code"] = "paper",
        reduction: Reduction = "mean",
        gather_distributed: bool = False,
    ) -> None:
        super().__init__(reduction=reduction, gather_distributed=gather_distributed)
        check_choice("variant", variant, ("paper", "code"))
        self.inter_weight = inter_weight
        self.intra_weight = intra_weight
        self.temperature = check_temperature(temperature)
        self.scale_t2 = scale_t2
        self.variant: Literal["paper", "code"] = variant

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)``."""
        student, teacher = self._joined(student, teacher)
        return kf.dist(
            student,
            teacher,
            inter_weight=self.inter_weight,
            intra_weight=self.intra_weight,
            temperature=self.temperature,
            scale_t2=self.scale_t2,
            variant=self.variant,
            reduction=self.reduction,
        )
