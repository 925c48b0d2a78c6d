"""Knowledge adaptation with affinities, made for segmentation (He et al. 2019).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction, prepare_pair, reduce_loss
from policykd.kd.losses._base import Signal
from policykd.kd.losses._connectors import conv_bn
from policykd.kd.losses._function import loss_function
from policykd.kd.losses.ft import FrozenParaphraserLoss, Paraphraser
from policykd.kd.options import check_options
from policykd.kd.shapes import match_size


@loss_function
def kta(
    student: Tensor,
    teacher: Tensor,
    *,
    norm: Literal["l1", "l2"] = "l1",
    affinity_weight: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Match a compressed teacher map, and the similarities between its places.

    ``mean |f_s / ||f_s|| - f_t / ||f_t|||`` (l1; l2: the norm of the difference), plus
    ``w mean_{p,q} (a_s[p, q] - a_t[p, q])**2`` with ``a[p, q]`` the cosine between the features at two places. He et
    al., CVPR 2019; the first part as in torchdistill, the affinities recalled.

    Args:
        student: *Adapted* map ``(B, K, H, W)``; the adapter is part of the module.
        teacher: *Translated* map of the same shape, detached here; the translator is part of the module.
        norm: Norm of the difference.
        affinity_weight: w.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is unknown.

    Example:
        >>> import torch
        >>> student = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
        >>> teacher = torch.tensor([[[[1.0, 1.0]], [[0.0, 0.0]]]])
        >>> kta(student, teacher)  # two places: orthogonal for the student, the same for the teacher
        tensor(0.8536)
    """
    student, teacher = prepare_pair(student, teacher, what="feature maps", min_dim=3)
    gap = F.normalize(student.flatten(1), dim=1) - F.normalize(teacher.flatten(1), dim=1)
    adapted = gap.abs().mean(1) if norm == "l1" else gap.norm(dim=1)
    units = [F.normalize(x.flatten(2), dim=1) for x in (student, teacher)]
    affinity_s, affinity_t = (x.transpose(1, 2) @ x for x in units)
    return reduce_loss(adapted + affinity_weight * (affinity_s - affinity_t).square().mean((1, 2)), reduction)


class KTA(FrozenParaphraserLoss):
    """Knowledge translation, adaptation and affinities; equation and errors: :func:`kta`.

    The teacher's map goes through a translator, the encoder of an auto-encoder that is trained before and frozen here:
    ``paraphraser.requires_grad_(True)``, some epochs on ``paraphraser.reconstruction_loss``, then ``False`` again. The
    student's map goes through a trained adapter.

    Args:
        student_channels: Channels of the student's map.
        teacher_channels: Channels of the teacher's map.
        rate: Channels of the translation as a share of the teacher's.
        norm: ``l1`` or ``l2``.
        affinity_weight: Weight of the affinities.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "kta"
    signal: ClassVar[Signal] = "features"
    channels_first: ClassVar[bool] = True

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        *,
        rate: float = 0.5,
        norm: Literal["l1", "l2"] = "l1",
        affinity_weight: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_options(kta, {"norm": norm})
        self.norm: Literal["l1", "l2"] = norm
        self.affinity_weight = affinity_weight
        self.freeze(Paraphraser(teacher_channels, rate=rate))
        self.adapter: nn.Module = conv_bn(student_channels, self.paraphraser.factor_channels, kernel=3)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of feature maps ``(B, C_s, H, W)`` and ``(B, C_t, H', W')``."""
        student, teacher = match_size(student, teacher)
        return kta(
            self.adapter(student),
            self.factor(teacher),
            norm=self.norm,
            affinity_weight=self.affinity_weight,
            reduction=self.reduction,
        )
