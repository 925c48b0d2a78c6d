"""Inter-channel correlation (Liu et al. 2021).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction, reduce_loss
from policykd.errors import ConfigError
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._connectors import Dims, conv_bn
from policykd.kd.losses._function import loss_function
from policykd.kd.options import check_options
from policykd.kd.shapes import prepare_maps


@loss_function
def ickd(
    student: Tensor, teacher: Tensor, *, variant: Literal["paper", "code"] = "paper", reduction: Reduction = "mean"
) -> Tensor:
    """Keep the teacher's correlations between channels, its diversity of features.

    With ``G = F F'`` (C x C) of the channels flattened over space. Liu et al., ICCV 2021, eq. 3 and 4 [recalled].
    Variants: ``paper`` ``1 / C**2 || G_s - G_t ||_F**2``; ``code`` divides every row of G by its norm first and the
    sum of squares by C (the weight 2.5 belongs to it).

    Departure: heights and widths may differ, the larger map is averaged down. The paper's grid version is left out.

    Args:
        student: Feature maps ``(B, C, H, W)`` or ``(B, C, L)``; the module's connector matches the channels.
        teacher: Feature maps ``(B, C, H', W')``, detached here.
        variant: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, a value is not finite, or an option is unknown.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
        >>> ickd(student, teacher)
        tensor(1.)
    """
    student, teacher = prepare_maps(student, teacher, same_channels=True)
    s, t = student.flatten(2), teacher.flatten(2)
    gram_s, gram_t = s @ s.transpose(1, 2), t @ t.transpose(1, 2)
    if variant == "paper":
        return reduce_loss((gram_s - gram_t).square().mean((1, 2)), reduction)
    gap = F.normalize(gram_s, dim=2) - F.normalize(gram_t, dim=2)
    return reduce_loss(gap.square().sum(2).mean(1), reduction)


class ICKD(KDLoss):
    """Inter-channel correlation; equation, variants and errors: :func:`ickd`.

    Args:
        student_channels: Channels of the student's map; with `teacher_channels` it makes the trained 1 x 1
            convolution with batch norm. Leave both out if the channels agree.
        teacher_channels: Channels of the teacher's map.
        variant: ``paper`` or ``code``.
        dims: 2 for maps ``(B, C, H, W)``, 1 for ``(B, C, L)``.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "ickd"
    signal: ClassVar[Signal] = "features"
    channels_first: ClassVar[bool] = True

    def __init__(
        self,
        student_channels: int | None = None,
        teacher_channels: int | None = None,
        *,
        variant: Literal["paper", "code"] = "paper",
        dims: Dims = 2,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_options(ickd, {"variant": variant})
        if (student_channels is None) != (teacher_channels is None):
            raise ConfigError("give both student_channels and teacher_channels, or neither")
        self.variant: Literal["paper", "code"] = variant
        self.connector: nn.Module = nn.Identity()
        if student_channels is not None and teacher_channels is not None:
            self.connector = conv_bn(student_channels, teacher_channels, dims=dims)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of feature maps ``(B, C_s, H, W)`` and ``(B, C_t, H', W')``."""
        return ickd(self.connector(student), teacher, variant=self.variant, reduction=self.reduction)
