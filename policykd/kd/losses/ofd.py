"""Overhaul of feature distillation (Heo et al. 2019).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from policykd.divergences import Reduction, prepare_pair, prepare_tensor, reduce_loss
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._connectors import Dims, channel_pairs, connected, conv_bn
from policykd.kd.losses._function import loss_function
from policykd.kd.shapes import Features, as_levels


def ofd_margin(mean: Tensor, std: Tensor) -> Tensor:
    """Expected value of a negative response, ``E[t | t < 0]``, of ``t ~ N(mean, std**2)``, per channel.

    ``mean - std phi(mean / std) / Phi(-mean / std)``, and ``-3 std`` where a negative response is rarer than 0.001,
    as in the authors' code. For a channel after batch normalization the mean is its bias and the deviation
    ``|weight|``.

    Args:
        mean: ``(C,)``.
        std: ``(C,)``, above 0.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a deviation is not above 0, or a value is not finite.
    """
    mean, std = prepare_pair(mean, std, what="batch-norm parameters")
    if bool((std <= 0).any()):
        raise ValueError(f"standard deviations must be above 0, the smallest is {float(std.min()):g}")
    ratio = mean / std
    log_tail = torch.special.log_ndtr(-ratio)
    log_density = -0.5 * ratio.square() - 0.5 * math.log(2.0 * math.pi)
    usual = mean - std * torch.exp(log_density - log_tail)
    return torch.where(log_tail.exp() <= 0.001, -3.0 * std, usual)


@loss_function
def ofd(student: Features, teacher: Features, margin: Features, *, reduction: Reduction = "mean") -> Tensor:
    """Copy the teacher's features before the activation, without asking for values that the activation removes.

    Sum over elements of ``(s - t')**2`` unless ``s <= t' <= 0``, with ``t' = max(t, margin)``, levels weighted
    ``2**(l - n)`` (the last has 1). Heo et al., ICCV 2019, eq. 3 to 6 [numbering recalled]; the customary outer
    weight is 1e-3.

    Args:
        student: Connected pre-activations ``(B, C, ...)``, one tensor or one per level.
        teacher: The same shapes, detached here.
        margin: Negative margins ``(C,)``, one tensor or one per level; see `ofd_margin`.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, a value is not finite, or the reduction is unknown.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, -5.0]]), torch.tensor([[2.0, -3.0]])
        >>> ofd(student, teacher, torch.tensor([-1.0, -1.0]))  # -5 is below the margin -1, where nothing is asked
        tensor(1.)
    """
    levels = as_levels(student, teacher)
    margins: Sequence[Tensor] = [margin] if isinstance(margin, Tensor) else margin
    if len(margins) != len(levels):
        raise ValueError(f"need one margin per level, got {len(margins)} margins for {len(levels)} levels")
    terms = []
    for index, ((s, t), m) in enumerate(zip(levels, margins, strict=True), start=1):
        terms.append(2.0 ** (index - len(levels)) * _partial_l2(s, t, m))
    return reduce_loss(torch.stack(terms).sum(0), reduction)


def _partial_l2(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    student, teacher = prepare_pair(student, teacher, what="pre-activations", min_dim=2)
    margin = prepare_tensor("margin", margin.detach()).to(student.dtype)
    if tuple(margin.shape) != (student.shape[1],):
        raise ValueError(f"margin must have shape ({student.shape[1]},), got {tuple(margin.shape)}")
    goal = torch.maximum(teacher, margin.reshape(1, -1, *[1] * (student.dim() - 2)))
    wanted = (student > goal) | (goal > 0)
    return ((student - goal).square() * wanted).flatten(1).sum(1)


class OFD(KDLoss):
    """Overhaul of feature distillation; equation and errors: :func:`ofd`.

    The authors run the teacher with the batch statistics of its batch norms; here the caller of the teacher decides.

    Args:
        student_channels: Channels of the student's levels.
        teacher_channels: Channels of the teacher's levels.
        batch_norms: The teacher's batch norm in front of each level, from which the margins are made; without them the
            margins are 0 until ``set_margins`` is called.
        dims: 2 for maps ``(B, C, H, W)``, 1 for ``(B, C, L)``.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "ofd"
    signal: ClassVar[Signal] = "levels"
    channels_first: ClassVar[bool] = True

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        batch_norms: Sequence[nn.BatchNorm1d | nn.BatchNorm2d] = (),
        dims: Dims = 2,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        pairs = channel_pairs(student_channels, teacher_channels)
        self.connectors = nn.ModuleList(conv_bn(c_s, c_t, dims=dims) for c_s, c_t in pairs)
        for index, (_, c_t) in enumerate(pairs):
            self.register_buffer(f"margin{index}", torch.zeros(c_t))
        if batch_norms:
            self.set_margins([ofd_margin(norm.bias.data, norm.weight.data.abs()) for norm in batch_norms])

    @property
    def margins(self) -> list[Tensor]:
        """Margins ``(C_t,)`` per level."""
        return [self.get_buffer(f"margin{index}") for index in range(len(self.connectors))]

    def set_margins(self, margins: Sequence[Tensor]) -> None:
        """Set the margins, one tensor ``(C_t,)`` per level, for instance from :func:`ofd_margin`."""
        for old, new in zip(self.margins, margins, strict=True):
            if old.shape != new.shape:
                raise ValueError(f"margin must have shape {tuple(old.shape)}, got {tuple(new.shape)}")
            old.copy_(new)

    def forward(self, student: Features, teacher: Features) -> Tensor:
        """Return the loss of pre-activation maps, one tensor or one per level."""
        students, teachers = connected(self.connectors, student, teacher)
        return ofd(students, teachers, self.margins, reduction=self.reduction)
