"""Module twin of `policykd.kd.functional.ce`."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.losses.base import KDLoss


class CE(KDLoss):
    """Cross-entropy with the labels; options, equation and errors as in `policykd.kd.functional.ce`."""

    name = "ce"
    inputs: ClassVar[tuple[str, ...]] = ("student", "target")

    def __init__(self, *, label_smoothing: float = 0.0, reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing!r}")
        self.label_smoothing = label_smoothing

    def forward(self, student: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)`` and labels ``(B,)`` or probabilities ``(B, C)``."""
        return kf.ce(student, target, label_smoothing=self.label_smoothing, reduction=self.reduction)
