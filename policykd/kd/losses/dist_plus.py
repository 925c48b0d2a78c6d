"""The relations between channels and between places that DIST+ adds to DIST (Huang et al. 2025).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from policykd.divergences import Reduction, reduce_loss
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._connectors import optional_connector
from policykd.kd.losses._function import loss_function
from policykd.kd.shapes import prepare_maps


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation along dimension 1; where a side is constant it is 0 and has no gradient."""
    first, second = (x - x.mean(1, keepdim=True) for x in (first, second))
    squares = first.square().sum(1) * second.square().sum(1)
    varies = squares > torch.finfo(squares.dtype).tiny
    root = torch.where(varies, squares, 1.0).sqrt()
    return torch.where(varies, (first * second).sum(1) / root, 0.0)


@loss_function
def dist_plus(
    student: Tensor,
    teacher: Tensor,
    *,
    channel_weight: float = 1.0,
    spatial_weight: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Ask for the teacher's pattern of channels at every place, and its pattern of places.

    ``w_c mean_p [1 - rho_c(f_s[:, p], f_t[:, p])] + w_p [1 - rho_p(sum_c f_s, sum_c f_t)]``, rho Pearson's correlation
    over channels and over places. Huang et al., TPAMI 2025 [recalled; structure
    read in torchdistill].

    It is the part of DIST+ on feature maps: add ``DIST()`` on the logits for the whole. Departures: both parts are one
    minus the correlation (a port adds the correlation of the channels itself, which would push maps apart); the places
    are those of one sample, so that the loss does not depend on the batch; training of the teacher together with the
    student is left out. A constant side has correlation 0.

    Args:
        student: Maps ``(B, C, H, W)``; the module's connector matches the channels.
        teacher: Maps ``(B, C, H', W')``, detached here; the larger is averaged down to the smaller size.
        channel_weight: w_c.
        spatial_weight: w_p.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, a value is not finite, or the reduction is unknown.

    Example:
        >>> import torch
        >>> student = torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]], [[2.0, 1.0]]]])  # three channels, two places
        >>> dist_plus(student, student.flip(1))
        tensor(1.)
    """
    student, teacher = prepare_maps(student, teacher, same_channels=True)
    s, t = student.flatten(2), teacher.flatten(2)
    channels = (1.0 - _correlation(s, t)).mean(1)
    places = 1.0 - _correlation(s.sum(1), t.sum(1))
    return reduce_loss(channel_weight * channels + spatial_weight * places, reduction)


class DISTPlus(KDLoss):
    """Channel and spatial relations of DIST+; equation, departures and errors: :func:`dist_plus`.

    Args:
        student_channels: Channels of the student's map; with `teacher_channels` it makes the trained 1 x 1
            convolution with batch norm. Leave both out if the channels agree.
        teacher_channels: Channels of the teacher's map.
        channel_weight: Weight of the relations between channels.
        spatial_weight: Weight of the relations between places.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "dist_plus"
    signal: ClassVar[Signal] = "features"

    def __init__(
        self,
        student_channels: int | None = None,
        teacher_channels: int | None = None,
        *,
        channel_weight: float = 1.0,
        spatial_weight: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.channel_weight, self.spatial_weight = channel_weight, spatial_weight
        self.connector: nn.Module = optional_connector(student_channels, teacher_channels)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of maps ``(B, C_s, H, W)`` and ``(B, C_t, H', W')``."""
        return dist_plus(
            self.connector(student),
            teacher,
            channel_weight=self.channel_weight,
            spatial_weight=self.spatial_weight,
            reduction=self.reduction,
        )
