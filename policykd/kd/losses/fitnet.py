"""Module twin of `policykd.kd.functional.fitnet`, with the regressor."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import check_choice
from policykd.kd.losses.base import KDLoss, Signal
from policykd.kd.losses.connectors import HintRegressor


class FitNet(KDLoss):
    """FitNets hints; equation, variants and errors as in `policykd.kd.functional.fitnet`.

    Args:
        student_shape: ``(C, H, W)`` of the student's level; together with `teacher_shape` it makes the trained
        regressor.
            Leave both out if the shapes agree or a projector was applied before.
        teacher_shape: ``(C, H, W)`` of the teacher's level.
        variant: ``code`` or ``paper``.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "fitnet"
    signal: ClassVar[Signal] = "features"

    def __init__(
        self,
        student_shape: tuple[int, int, int] | None = None,
        teacher_shape: tuple[int, int, int] | None = None,
        *,
        variant: Literal["code", "paper"] = "code",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_choice("variant", variant, ("code", "paper"))
        if (student_shape is None) != (teacher_shape is None):
            raise ValueError("give both student_shape and teacher_shape, or neither")
        self.variant: Literal["code", "paper"] = variant
        self.regressor: nn.Module = nn.Identity()
        if student_shape is not None and teacher_shape is not None:
            self.regressor = HintRegressor(student_shape, teacher_shape)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of features ``(B, ...)``."""
        return kf.fitnet(self.regressor(student), teacher, variant=self.variant, reduction=self.reduction)
