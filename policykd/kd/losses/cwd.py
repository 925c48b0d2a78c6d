"""Channel-wise distillation: where is each channel active? (Shu et al. 2021)."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction, reduce_loss
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._connectors import optional_connector
from policykd.kd.losses._function import loss_function
from policykd.kd.options import Temperature, check_options
from policykd.kd.shapes import prepare_maps


@loss_function
def cwd(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: Temperature = 4.0,
    scale_t2: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Turn every channel into a distribution over places and match the teacher's.

    ``T**2 / C sum_c KL(softmax_places(t_c / T) || softmax_places(s_c / T))``. Shu et al., ICCV 2021, as in
    the authors' code.

    Made for segmentation, for feature maps or for maps of class logits. Departure: heights and widths may differ, the
    larger map is averaged down.

    Args:
        student: Maps ``(B, C, H, W)``; the module's connector matches the channels.
        teacher: Maps ``(B, C, H', W')``, detached here.
        temperature: T > 0; a small one looks at the most active places only.
        scale_t2: Multiply by ``T**2``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
        >>> cwd(student, teacher, temperature=1.0)
        tensor(0.1028)
    """
    student, teacher = prepare_maps(student, teacher, same_channels=True)
    log_s, log_t = (F.log_softmax(x.flatten(2) / temperature, 2) for x in (student, teacher))
    values = (log_t.exp() * (log_t - log_s)).sum(2).mean(1)
    return reduce_loss(values * temperature**2 if scale_t2 else values, reduction)


class CWD(KDLoss):
    """Channel-wise distillation; equation and errors: :func:`cwd`.

    Args:
        student_channels: Channels of the student's map; with `teacher_channels` it makes the trained 1 x 1
            convolution with batch norm. Leave both out if the channels agree.
        teacher_channels: Channels of the teacher's map.
        temperature: T > 0.
        scale_t2: Multiply by ``T**2``.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "cwd"
    signal: ClassVar[Signal] = "features"
    channels_first: ClassVar[bool] = True

    def __init__(
        self,
        student_channels: int | None = None,
        teacher_channels: int | None = None,
        *,
        temperature: float = 4.0,
        scale_t2: bool = True,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_options(cwd, {"temperature": temperature})
        self.temperature, self.scale_t2 = temperature, scale_t2
        self.connector: nn.Module = optional_connector(student_channels, teacher_channels)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of maps ``(B, C_s, H, W)`` and ``(B, C_t, H', W')``."""
        return cwd(
            self.connector(student),
            teacher,
            temperature=self.temperature,
            scale_t2=self.scale_t2,
            reduction=self.reduction,
        )
