"""Module twin of `policykd.kd.functional.cwtm`."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from policykd.kd import functional as kf
from policykd.kd.losses.base import KDLoss


class CWTM(KDLoss):
    """Labels weighted by the teacher's confidence; equation and errors as in `policykd.kd.functional.cwtm`."""

    name = "cwtm"
    inputs: ClassVar[tuple[str, ...]] = ("student", "teacher", "target")
    batch_coupled: ClassVar[bool] = True

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)`` and labels ``(B,)``."""
        return kf.cwtm(student, teacher, target, reduction=self.reduction)
