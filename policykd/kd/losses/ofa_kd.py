"""One-for-all distillation between different architectures: stages predict logits (Hao et al. 2023).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction, prepare_pair, reduce_loss
from policykd.errors import ConfigError
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._connectors import conv_bn
from policykd.kd.losses._function import loss_function
from policykd.kd.options import Positive, Temperature, check_options
from policykd.kd.shapes import check_labels


@loss_function
def ofa_kd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    exponent: Positive = 1.0,
    temperature: Temperature = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Give the label's probability a power, so that another architecture follows the label where the teacher is sure.

    ``-sum_c [(p_c + [c = y])**g - [c = y]] log q_c`` with the teacher's p and the student's q. With g = 1 it is the
    cross-entropy with p; above, the label counts more. Hao et al., NeurIPS 2023, as in the authors' code.

    Args:
        student: Logits ``(B, C)``, from a stage's head, which is part of the module.
        teacher: Logits ``(B, C)``, detached here.
        target: Class indices ``(B,)``.
        exponent: g > 0.
        temperature: Temperature of both.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: logits are not floating-point, or labels not integers.
        ValueError: shapes differ, a label out of range, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 1.0, 4.0]])
        >>> ofa_kd(student, teacher, torch.tensor([2]), exponent=1.0)
        tensor(0.6780)
    """
    student, teacher = prepare_pair(student, teacher, min_dim=2)
    if student.dim() != 2:
        raise ValueError(f"OFA-KD needs logits (B, C), got {tuple(student.shape)}")
    column = check_labels(student, target)[:, None]
    own = torch.zeros_like(student).scatter(1, column, 1.0)
    weight = ((teacher / temperature).softmax(1) + own).pow(exponent) - own
    return reduce_loss(-(weight * F.log_softmax(student / temperature, 1)).sum(1), reduction)


class OFAKD(KDLoss):
    """One-for-all distillation of one stage; equation and errors: :func:`ofa_kd`.

    The student's map goes through a trained head to logits; the teacher gives its final logits. Place one per stage:
    ``OFAKD(channels, classes).on("layer2", "fc")``.

    Departure: the head has one 3 x 3 convolution with stride 2, batch norm and ReLU before average pooling and the
    linear layer; the paper's has more of them for earlier stages, and transformer blocks for transformers.

    Args:
        student_channels: Channels of the student's map; with `classes` it makes the trained head. Leave both out if the
            student's tap gives logits.
        classes: Number of classes C.
        exponent: g > 0.
        temperature: Temperature of both.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "ofa_kd"
    signal: ClassVar[Signal] = "features"
    channels_first: ClassVar[bool] = True
    inputs: ClassVar[tuple[str, ...]] = ("student", "teacher", "target")

    def __init__(
        self,
        student_channels: int | None = None,
        classes: int | None = None,
        *,
        exponent: float = 1.0,
        temperature: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_options(ofa_kd, {"exponent": exponent, "temperature": temperature})
        if (student_channels is None) != (classes is None):
            raise ConfigError("give both student_channels and classes, or neither")
        self.exponent, self.temperature = exponent, temperature
        self.head: nn.Module = nn.Identity()
        if student_channels is not None and classes is not None:
            widen = conv_bn(student_channels, 2 * student_channels, kernel=3, stride=2, relu=True)
            pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.head = nn.Sequential(widen, pool, nn.Linear(2 * student_channels, classes))

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a stage's map ``(B, C_s, H, W)``, the teacher's logits ``(B, C)`` and labels ``(B,)``."""
        return ofa_kd(
            self.head(student),
            teacher,
            target,
            exponent=self.exponent,
            temperature=self.temperature,
            reduction=self.reduction,
        )
