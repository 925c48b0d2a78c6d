"""Module twin of `policykd.kd.functional.mse_logits`."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import check_choice
from policykd.kd.losses.base import KDLoss


class MSELogits(KDLoss):
    """Squared error on raw logits; equation, options and errors as in `policykd.kd.functional.mse_logits`."""

    name = "mse_logits"

    def __init__(
        self, *, variant: Literal["code", "paper", "centered"] = "code", reduction: Reduction = "mean"
    ) -> None:
        super().__init__(reduction=reduction)
        check_choice("variant", variant, ("code", "paper", "centered"))
        self.variant: Literal["code", "paper", "centered"] = variant

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)``."""
        return kf.mse_logits(student, teacher, variant=self.variant, reduction=self.reduction)
