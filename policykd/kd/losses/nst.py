"""Module twin of `policykd.kd.functional.nst`."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from policykd.divergences import Reduction, reduce_loss
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import Features, as_levels, check_choice
from policykd.kd.losses.base import KDLoss, Signal


class NST(KDLoss):
    """Neuron selectivity transfer; equation, options and errors as in `policykd.kd.functional.nst`.

    Several levels are added.
    """

    name = "nst"
    signal: ClassVar[Signal] = "features"

    def __init__(self, *, kernel: Literal["poly", "linear"] = "poly", reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        check_choice("kernel", kernel, ("poly", "linear"))
        self.kernel: Literal["poly", "linear"] = kernel

    def forward(self, student: Features, teacher: Features) -> Tensor:
        """Return the loss of feature maps ``(B, C, H, W)``, or lists of them."""
        terms = [kf.nst(s, t, kernel=self.kernel, reduction="none") for s, t in as_levels(student, teacher)]
        return reduce_loss(torch.stack(terms).sum(0), self.reduction)
