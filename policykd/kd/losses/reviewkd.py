"""Module twin of `policykd.kd.functional.reviewkd`, with the fusion of student levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction
from policykd.kd import functional as kf
from policykd.kd.functional.shapes import as_levels
from policykd.kd.losses.base import KDLoss, Signal
from policykd.kd.losses.connectors import channel_pairs, conv_bn


class Fusion(nn.Module):
    """Attention-based fusion of one student level with what came from the deeper levels.

    Args:
        channels_in: Channels of the student's level.
        channels_mid: Width of the stream that runs from deep to shallow.
        channels_out: Channels of the teacher's level.
        fuse: Whether a deeper level exists.
    """

    def __init__(self, channels_in: int, channels_mid: int, channels_out: int, *, fuse: bool) -> None:
        super().__init__()
        self.reduce = conv_bn(channels_in, channels_mid)
        self.expand = conv_bn(channels_mid, channels_out, kernel=3)
        self.attention = nn.Sequential(nn.Conv2d(2 * channels_mid, 2, 1), nn.Sigmoid()) if fuse else None

    def forward(self, level: Tensor, deeper: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the level in the teacher's channels, at `size`, and the stream for the next shallower level."""
        stream: Tensor = self.reduce(level)
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, stream.shape[2:], mode="nearest")
            maps = self.attention(torch.cat([stream, deeper], 1))
            stream = stream * maps[:, :1] + deeper * maps[:, 1:]
        out = stream if stream.shape[2:] == size else F.interpolate(stream, size, mode="nearest")
        return self.expand(out), stream


class ReviewKD(KDLoss):
    """Knowledge review; the distance is `policykd.kd.functional.reviewkd`.

    Student levels are fused from the deepest to the shallowest and each is compared with the teacher's level of the
    same rank. A level may be a pooled vector ``(B, C)``; it is then a map of one place.

    Args:
        student_channels: Channels of the student's levels, shallow to deep.
        teacher_channels: Channels of the teacher's levels, shallow to deep.
        mid_channels: Width of the fused stream; by default the deepest student's, at most 512.
        pools: See the functional twin.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "reviewkd"
    signal: ClassVar[Signal] = "levels"

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        mid_channels: int | None = None,
        pools: tuple[int, ...] = (4, 2, 1),
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        pairs = channel_pairs(student_channels, teacher_channels)
        if not pairs:
            raise ValueError("ReviewKD needs at least one level, got no channels")
        mid = min(512, pairs[-1][0]) if mid_channels is None else mid_channels
        self.pools = pools
        last = len(pairs) - 1
        self.fusions = nn.ModuleList(Fusion(s, mid, t, fuse=i < last) for i, (s, t) in enumerate(pairs))

    def fuse(self, student: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Return the fused levels ``(B, C_t, H_t, W_t)``, shallow to deep."""
        fused: list[Tensor] = []
        stream: Tensor | None = None
        for fusion, level, size in zip(reversed(self.fusions), reversed(student), reversed(sizes), strict=True):
            out, stream = fusion(level if level.dim() == 4 else level[..., None, None], stream, size)
            fused.insert(0, out)
        return fused

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Return the loss of lists of feature maps ``(B, C_l, H_l, W_l)``, shallow to deep."""
        levels = as_levels(student, teacher)
        if len(levels) != len(self.fusions):
            raise ValueError(f"built for {len(self.fusions)} levels, got {len(levels)}")
        goals = [t if t.dim() == 4 else t[..., None, None] for _, t in levels]
        fused = self.fuse([s for s, _ in levels], [(t.shape[2], t.shape[3]) for t in goals])
        return kf.reviewkd(fused, goals, pools=self.pools, reduction=self.reduction)
