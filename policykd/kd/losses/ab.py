"""Activation boundaries (Heo et al. 2019).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from policykd.divergences import Reduction, prepare_pair, reduce_loss
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._connectors import Dims, channel_pairs, connected, conv_bn
from policykd.kd.losses._function import loss_function
from policykd.kd.options import Positive, check_options
from policykd.kd.shapes import Features, as_levels


def boundary_loss(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """Element-wise ``(s + m)**2`` where the neuron should be off and is not, ``(s - m)**2`` where it should be on."""
    too_high = (teacher <= 0) & (student > -margin)
    too_low = (teacher > 0) & (student <= margin)
    return (student + margin).square() * too_high + (student - margin).square() * too_low


@loss_function
def ab(
    student: Features,
    teacher: Features,
    *,
    margin: Positive = 1.0,
    variant: Literal["paper", "code"] = "paper",
    reduction: Reduction = "mean",
) -> Tensor:
    """Make every hidden neuron of the student switch where the teacher's switches.

    Sum over neurons of ``(s + m)**2 [s > -m, t <= 0] + (s - m)**2 [s <= m, t > 0]`` on values *before* the
    activation. Heo et al., AAAI 2019, eq. 6. Variants: ``paper`` adds the levels; ``code`` weights level l of n by
    ``2**(l - n)`` (the last has 1) and everything by 3/1000. It is used to initialize a student, before it is
    trained on labels.

    A student equal to the teacher is not at zero where ``|s| < m``: the margin asks for more.

    Args:
        student: Connected pre-activations ``(B, ...)``, one tensor or one per level, from first to last.
        teacher: The same shapes, detached here.
        margin: m > 0.
        variant: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[2.0, 0.5]]), torch.tensor([[-1.0, 3.0]])
        >>> ab(student, teacher)  # (2 + 1)**2 + (0.5 - 1)**2
        tensor(9.2500)
    """
    levels = as_levels(student, teacher)
    terms = []
    for index, (s, t) in enumerate(levels, start=1):
        s, t = prepare_pair(s, t, what="pre-activations", min_dim=2)
        weight = 2.0 ** (index - len(levels)) * 3.0 / 1000.0 if variant == "code" else 1.0
        terms.append(weight * boundary_loss(s, t, margin).flatten(1).sum(1))
    return reduce_loss(torch.stack(terms).sum(0), reduction)


class AB(KDLoss):
    """Activation boundaries; equation, variants and errors: :func:`ab`.

    Args:
        student_channels: Channels of the student's levels; with `teacher_channels` they make one trained 1 x 1
            convolution with batch norm per level. Leave both out if the shapes agree.
        teacher_channels: Channels of the teacher's levels.
        margin: m > 0.
        variant: ``paper`` or ``code``.
        dims: 2 for maps ``(B, C, H, W)``, 1 for ``(B, C, L)``.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "ab"
    signal: ClassVar[Signal] = "levels"
    channels_first: ClassVar[bool] = True

    def __init__(
        self,
        student_channels: Sequence[int] = (),
        teacher_channels: Sequence[int] = (),
        *,
        margin: float = 1.0,
        variant: Literal["paper", "code"] = "paper",
        dims: Dims = 2,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_options(ab, {"margin": margin, "variant": variant})
        self.margin = margin
        self.variant: Literal["paper", "code"] = variant
        pairs = channel_pairs(student_channels, teacher_channels)
        self.connectors = nn.ModuleList(conv_bn(c_s, c_t, dims=dims) for c_s, c_t in pairs)

    def forward(self, student: Features, teacher: Features) -> Tensor:
        """Return the loss of pre-activation maps, one tensor or one per level."""
        students, teachers = connected(self.connectors, student, teacher)
        return ab(students, teachers, margin=self.margin, variant=self.variant, reduction=self.reduction)
