"""Module twin of `policykd.kd.functional.wsld`."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from policykd.divergences import Reduction, check_temperature
from policykd.kd import functional as kf
from policykd.kd.losses.base import KDLoss


class WSLD(KDLoss):
    """Weighted soft labels; equation, options and errors as in `policykd.kd.functional.wsld`."""

    name = "wsld"
    inputs: ClassVar[tuple[str, ...]] = ("student", "teacher", "target")

    def __init__(self, *, temperature: float = 2.0, scale_t2: bool = True, reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        self.temperature = check_temperature(temperature)
        self.scale_t2 = scale_t2

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)`` and labels ``(B,)``."""
        return kf.wsld(
            student, teacher, target, temperature=self.temperature, scale_t2=self.scale_t2, reduction=self.reduction
        )
