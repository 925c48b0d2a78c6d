"""Module twin of `policykd.kd.functional.ofd`, with connectors and margins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import Features
from policykd.kd.losses.ab import connected
from policykd.kd.losses.base import KDLoss, Signal
from policykd.kd.losses.connectors import channel_pairs, conv_bn


class OFD(KDLoss):
    """Overhaul of feature distillation; equation and errors as in `policykd.kd.functional.ofd`.

    The authors run the teacher with the batch statistics of its batch norms; whoever calls the teacher decides that.

    Args:
        student_channels: Channels of the student's levels.
        teacher_channels: Channels of the teacher's levels.
        batch_norms: The teacher's batch norm in front of each level, from which the margins are made; without them the
            margins are 0 until ``set_margins`` is called.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "ofd"
    signal: ClassVar[Signal] = "levels"

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        batch_norms: Sequence[nn.BatchNorm2d] = (),
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        pairs = channel_pairs(student_channels, teacher_channels)
        self.connectors = nn.ModuleList(conv_bn(c_s, c_t) for c_s, c_t in pairs)
        for index, (_, c_t) in enumerate(pairs):
            self.register_buffer(f"margin{index}", torch.zeros(c_t))
        if batch_norms:
            self.set_margins([kf.ofd_margin(norm.bias.data, norm.weight.data.abs()) for norm in batch_norms])

    @property
    def margins(self) -> list[Tensor]:
        """Margins ``(C_t,)`` per level."""
        return [self.get_buffer(f"margin{index}") for index in range(len(self.connectors))]

    def set_margins(self, margins: Sequence[Tensor]) -> None:
        """Set the margins, one tensor ``(C_t,)`` per level, for instance from `policykd.kd.functional.ofd_margin`."""
        for old, new in zip(self.margins, margins, strict=True):
            if old.shape != new.shape:
                raise ValueError(f"margin must have shape {tuple(old.shape)}, got {tuple(new.shape)}")
            old.copy_(new)

    def forward(self, student: Features, teacher: Features) -> Tensor:
        """Return the loss of pre-activation maps, one tensor or one per level."""
        students, teachers = connected(self.connectors, student, teacher)
        return kf.ofd(students, teachers, self.margins, reduction=self.reduction)
