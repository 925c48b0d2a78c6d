"""Semantic calibration: every student level chooses among the teacher's levels (Chen et al. 2021).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction, prepare_pair, prepare_tensor, reduce_loss
from policykd.errors import ConfigError
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._connectors import conv_bn
from policykd.kd.losses._function import loss_function
from policykd.kd.options import check_positive
from policykd.kd.shapes import Features, as_levels, match_size


@loss_function
def semckd(student: Features, teacher: Features, attention: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Weigh the distances between all pairs of student and teacher levels by attention.

    ``1 / S sum_{l,m} a_lm mean (P_lm(f_s^l) - f_t^m)**2``, S student levels; the attention of a student level sums to
    one over the teacher's levels. Chen et al., AAAI 2021, as in the authors' code.

    Args:
        student: *Projected* features of the pairs ``(l, m)``, m running fastest; projectors are part of the module.
        teacher: Features of the same shapes, detached here.
        attention: a, ``(B, S, M)`` with ``S M`` the number of pairs, with a gradient.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, a value is not finite, or the reduction is unknown.

    Example:
        >>> import torch
        >>> student, teacher = [torch.zeros(1, 2), torch.zeros(1, 2)], [torch.ones(1, 2), 2 * torch.ones(1, 2)]
        >>> semckd(student, teacher, torch.tensor([[[0.5, 0.5]]]))  # one student level, two teacher levels
        tensor(2.5000)
    """
    pairs = as_levels(student, teacher)
    distances = []
    for s, t in pairs:
        s, t = prepare_pair(s, t, what="features", min_dim=2)
        distances.append((s - t).square().flatten(1).mean(1))
    stacked = torch.stack(distances, 1)
    attention = prepare_tensor("attention", attention, min_dim=3).to(stacked.dtype)
    if attention.dim() != 3 or attention.flatten(1).shape != stacked.shape:
        given = tuple(attention.shape)
        raise ValueError(
            f"attention must be (B, S, M) with B S M = {stacked.numel()} for {len(pairs)} pairs, got {given}"
        )
    return reduce_loss((attention.flatten(1) * stacked).sum(1) / attention.shape[1], reduction)


class _Embed(nn.Module):
    """Two linear layers from a row of similarities to a unit vector."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, 2 * out), nn.Linear(2 * out, out)

    def forward(self, rows: Tensor) -> Tensor:
        """Map ``(B, width)`` to unit vectors ``(B, out)``."""
        return F.normalize(self.second(self.first(rows).relu()), dim=1)


class SemCKD(KDLoss):
    """Semantic calibration; the distance is :func:`semckd`.

    A student level's query and a teacher level's key are learned from the sample's row in the matrix of similarities of
    the batch; their product, through a softmax over the teacher's levels, is the attention.

    Departures: rows are padded with zeros to `batch`, so that smaller batches pass; rows are divided by their norm,
    which keeps the start of training independent of the size of the features.

    Args:
        student_channels: Channels of the student's levels.
        teacher_channels: Channels of the teacher's levels; their number may differ.
        batch: Largest number of samples in a batch.
        width: Width of queries and keys.
        softness: Divides the products before the softmax.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "semckd"
    signal: ClassVar[Signal] = "levels"
    channels_first: ClassVar[bool] = True
    batch_coupled: ClassVar[bool] = True

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        batch: int = 256,
        width: int = 16,
        softness: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_positive(batch=batch, width=width, softness=softness)
        if not student_channels or not teacher_channels:
            raise ConfigError("SemCKD needs the channels of at least one student and one teacher level")
        self.batch, self.softness = batch, softness
        self.queries = nn.ModuleList(_Embed(batch, width) for _ in student_channels)
        self.keys = nn.ModuleList(_Embed(batch, width) for _ in teacher_channels)
        self.projectors = nn.ModuleList(
            nn.Sequential(
                conv_bn(s, 2 * t, relu=True),
                conv_bn(2 * t, 2 * t, kernel=3, relu=True),
                nn.Conv2d(2 * t, t, 1, bias=False),
            )
            for s in student_channels
            for t in teacher_channels
        )

    def attention(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Return the attention ``(B, S, M)`` of lists of maps.

        Raises:
            ValueError: the batch is larger than the module was built for.
        """
        query = torch.stack([embed(self._rows(x)) for embed, x in zip(self.queries, student, strict=True)], 1)
        key = torch.stack([embed(self._rows(x.detach())) for embed, x in zip(self.keys, teacher, strict=True)], 2)
        return ((query @ key) / self.softness).softmax(2)

    def _rows(self, features: Tensor) -> Tensor:
        if len(features) > self.batch:
            raise ValueError(f"a batch of {len(features)} samples, but SemCKD was built with batch={self.batch}")
        flat = features.flatten(1)
        return F.pad(F.normalize(flat @ flat.T, dim=1), (0, self.batch - len(flat)))

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Return the loss of lists of feature maps ``(B, C_l, H_l, W_l)``."""
        if len(student) != len(self.queries) or len(teacher) != len(self.keys):
            expected = f"{len(self.queries)} student and {len(self.keys)} teacher levels"
            raise ValueError(f"built for {expected}, got {len(student)} and {len(teacher)}")
        matched = [match_size(s, t) for s in student for t in teacher]
        projected = [project(s) for project, (s, _) in zip(self.projectors, matched, strict=True)]
        attention = self.attention(student, teacher)
        return semckd(projected, [t for _, t in matched], attention, reduction=self.reduction)
