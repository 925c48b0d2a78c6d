"""Module twin of `policykd.kd.functional.pkt`."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import check_choice
from policykd.kd.losses.base import GatheredLoss, Signal


class PKT(GatheredLoss):
    """Probabilistic knowledge transfer; equation, options and errors as in `policykd.kd.functional.pkt`.

    `gather_distributed` joins the batches of all processes.
    """

    name = "pkt"
    signal: ClassVar[Signal] = "features"

    def __init__(
        self,
        *,
        variant: Literal["code", "paper"] = "code",
        eps: float = 1e-7,
        reduction: Reduction = "mean",
        gather_distributed: bool = False,
    ) -> None:
        super().__init__(reduction=reduction, gather_distributed=gather_distributed)
        check_choice("variant", variant, ("code", "paper"))
        self.variant: Literal["code", "paper"] = variant
        self.eps = eps

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of features ``(B, ...)``."""
        student, teacher = self._joined(student, teacher)
        return kf.pkt(student, teacher, variant=self.variant, eps=self.eps, reduction=self.reduction)
