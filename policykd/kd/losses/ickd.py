"""Module twin of `policykd.kd.functional.ickd`, with the connector."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import check_choice
from policykd.kd.losses.base import KDLoss, Signal
from policykd.kd.losses.connectors import conv_bn


class ICKD(KDLoss):
    """Inter-channel correlation; equation, variants and errors as in `policykd.kd.functional.ickd`.

    Args:
        student_channels: Channels of the student's map; with `teacher_channels` it makes the trained 1 x 1
        convolution with
            batch norm. Leave both out if the channels agree.
        teacher_channels: Channels of the teacher's map.
        variant: ``paper`` or ``code``.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "ickd"
    signal: ClassVar[Signal] = "features"

    def __init__(
        self,
        student_channels: int | None = None,
        teacher_channels: int | None = None,
        *,
        variant: Literal["paper", "code"] = "paper",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_choice("variant", variant, ("paper", "code"))
        if (student_channels is None) != (teacher_channels is None):
            raise ValueError("give both student_channels and teacher_channels, or neither")
        self.variant: Literal["paper", "code"] = variant
        self.connector: nn.Module = nn.Identity()
        if student_channels is not None and teacher_channels is not None:
            self.connector = conv_bn(student_channels, teacher_channels)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of feature maps ``(B, C_s, H, W)`` and ``(B, C_t, H', W')``."""
        return kf.ickd(self.connector(student), teacher, variant=self.variant, reduction=self.reduction)
