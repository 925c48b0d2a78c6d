"""SimKD: the student reuses the teacher's classifier (Chen et al. 2022).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from policykd.divergences import Reduction, reduce_loss
from policykd.errors import ConfigError
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._connectors import conv_bn
from policykd.kd.losses._function import loss_function
from policykd.kd.options import check_positive
from policykd.kd.shapes import match_size, prepare_maps


@loss_function
def simkd(student: Tensor, teacher: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Reproduce the map in front of the teacher's classifier.

    ``mean (P(f_s) - f_t)**2``, P the trained projector. Chen et al., CVPR 2022, as in the authors' code.

    Args:
        student: *Projected* maps ``(B, C, H, W)``; the projector is part of the module.
        teacher: Maps ``(B, C, H', W')``, detached here; the larger is averaged down to the smaller size.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, a value is not finite, or the reduction is unknown.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
        >>> simkd(student, teacher)
        tensor(0.2500)
    """
    student, teacher = prepare_maps(student, teacher, same_channels=True)
    return reduce_loss((student - teacher).square().flatten(1).mean(1), reduction)


class SimKD(KDLoss):
    """SimKD; equation and errors: :func:`simkd`.

    It is the only loss that the paper uses, without labels. The student of the paper predicts by ``predict``: its own
    map, the projector and the teacher's classifier. Keep this module with the student for that.

    Args:
        student_channels: Channels of the student's last map; with `teacher_channels` it makes the trained projector of
            1 x 1, 3 x 3 and 1 x 1 convolutions. Leave both out if the maps agree.
        teacher_channels: Channels of the teacher's last map.
        factor: The projector's middle has the teacher's channels divided by this.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "simkd"
    signal: ClassVar[Signal] = "features"
    channels_first: ClassVar[bool] = True

    def __init__(
        self,
        student_channels: int | None = None,
        teacher_channels: int | None = None,
        *,
        factor: int = 2,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_positive(factor=factor)
        if (student_channels is None) != (teacher_channels is None):
            raise ConfigError("give both student_channels and teacher_channels, or neither")
        self.factor = factor
        self.projector: nn.Module = nn.Identity()
        if student_channels is not None and teacher_channels is not None:
            middle = max(1, teacher_channels // factor)
            self.projector = nn.Sequential(
                conv_bn(student_channels, middle, relu=True),
                conv_bn(middle, middle, kernel=3, relu=True),
                conv_bn(middle, teacher_channels, relu=True),
            )

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of feature maps ``(B, C_s, H, W)`` and ``(B, C_t, H', W')``."""
        student, teacher = match_size(student, teacher)
        return simkd(self.projector(student), teacher, reduction=self.reduction)

    def predict(self, student: Tensor, classifier: nn.Module) -> Tensor:
        """Return the logits ``(B, C)`` of the teacher's classifier for the projected, averaged map of the student."""
        logits: Tensor = classifier(self.projector(student).mean((2, 3)))
        return logits
