"""Module twin of `policykd.kd.functional.ab`, with the connectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import Features, as_levels, check_choice, check_positive, match_size
from policykd.kd.losses.base import KDLoss, Signal
from policykd.kd.losses.connectors import channel_pairs, conv_bn


class AB(KDLoss):
    """Activation boundaries; equation, variants and errors as in `policykd.kd.functional.ab`.

    Args:
        student_channels: Channels of the student's levels; with `teacher_channels` they make one trained 1 x 1
        convolution
            with batch norm per level. Leave both out if the shapes agree.
        teacher_channels: Channels of the teacher's levels.
        margin: m > 0.
        variant: ``paper`` or ``code``.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "ab"
    signal: ClassVar[Signal] = "levels"

    def __init__(
        self,
        student_channels: Sequence[int] = (),
        teacher_channels: Sequence[int] = (),
        *,
        margin: float = 1.0,
        variant: Literal["paper", "code"] = "paper",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_choice("variant", variant, ("paper", "code"))
        check_positive(margin=margin)
        self.margin = margin
        self.variant: Literal["paper", "code"] = variant
        pairs = channel_pairs(student_channels, teacher_channels)
        self.connectors = nn.ModuleList(conv_bn(c_s, c_t) for c_s, c_t in pairs)

    def forward(self, student: Features, teacher: Features) -> Tensor:
        """Return the loss of pre-activation maps, one tensor or one per level."""
        students, teachers = connected(self.connectors, student, teacher)
        return kf.ab(students, teachers, margin=self.margin, variant=self.variant, reduction=self.reduction)


def connected(connectors: nn.ModuleList, student: Features, teacher: Features) -> tuple[list[Tensor], list[Tensor]]:
    """Send every student level through its connector, if there are any, and match the sizes of the maps."""
    levels = as_levels(student, teacher)
    if connectors and len(connectors) != len(levels):
        raise ValueError(f"built for {len(connectors)} levels, got {len(levels)}")
    students, teachers = [], []
    for index, (s, t) in enumerate(levels):
        s = connectors[index](s) if connectors else s
        s, t = match_size(s, t) if s.dim() == t.dim() == 4 else (s, t)
        students.append(s)
        teachers.append(t)
    return students, teachers
