"""Module twin of `policykd.kd.functional.at`."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from policykd.divergences import Reduction, reduce_loss
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import Features, as_levels, check_choice
from policykd.kd.losses.base import KDLoss, Signal


class AT(KDLoss):
    """Attention transfer; equation, options and errors as in `policykd.kd.functional.at`.

    Several levels are added.
    """

    name = "at"
    signal: ClassVar[Signal] = "features"

    def __init__(
        self, *, power: float = 2.0, variant: Literal["code", "paper"] = "code", reduction: Reduction = "mean"
    ) -> None:
        super().__init__(reduction=reduction)
        check_choice("variant", variant, ("code", "paper"))
        self.power = power
        self.variant: Literal["code", "paper"] = variant

    def forward(self, student: Features, teacher: Features) -> Tensor:
        """Return the loss of feature maps ``(B, C, H, W)``, or lists of them."""
        terms = [
            kf.at(s, t, power=self.power, variant=self.variant, reduction="none")
            for s, t in as_levels(student, teacher)
        ]
        return reduce_loss(torch.stack(terms).sum(0), self.reduction)
