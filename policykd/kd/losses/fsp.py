"""Module twin of `policykd.kd.functional.fsp`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import check_choice
from policykd.kd.losses.base import KDLoss, Signal


class FSP(KDLoss):
    """Flow of the solution procedure; equation, options and errors as in `policykd.kd.functional.fsp`."""

    name = "fsp"
    signal: ClassVar[Signal] = "levels"

    def __init__(self, *, variant: Literal["code", "paper"] = "code", reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        check_choice("variant", variant, ("code", "paper"))
        self.variant: Literal["code", "paper"] = variant

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Return the loss of lists of feature maps ``(B, C_l, H_l, W_l)``."""
        return kf.fsp(student, teacher, variant=self.variant, reduction=self.reduction)
