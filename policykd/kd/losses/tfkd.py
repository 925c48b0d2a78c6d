"""Module twin of `policykd.kd.functional.tfkd`."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from policykd.divergences import Reduction, check_temperature
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import check_choice
from policykd.kd.functional.tfkd import check_certainty
from policykd.kd.losses.base import KDLoss


class TFKD(KDLoss):
    """Distillation from a virtual teacher; equation, options and errors as in `policykd.kd.functional.tfkd`."""

    name = "tfkd"
    inputs: ClassVar[tuple[str, ...]] = ("student", "target")

    def __init__(
        self,
        *,
        certainty: float = 0.99,
        temperature: float = 20.0,
        variant: Literal["paper", "code"] = "paper",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_choice("variant", variant, ("paper", "code"))
        self.certainty = check_certainty(certainty)
        self.temperature = check_temperature(temperature)
        self.variant: Literal["paper", "code"] = variant

    def forward(self, student: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)`` and labels ``(B,)``."""
        return kf.tfkd(
            student,
            target,
            certainty=self.certainty,
            temperature=self.temperature,
            variant=self.variant,
            reduction=self.reduction,
        )
