"""Hierarchical context loss of knowledge review (Chen et al. 2021).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction, prepare_pair, reduce_loss
from policykd.errors import ConfigError, ShapeError
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._connectors import Dims, channel_pairs, conv_bn, convolution
from policykd.kd.losses._function import loss_function
from policykd.kd.options import Rule, check_options
from policykd.kd.shapes import Features, as_levels, shrink_map


def check_pools(name: str, pools: Sequence[int]) -> None:
    """Raise ConfigError unless all pool sizes are positive."""
    if any(size < 1 for size in pools):
        raise ConfigError(f"{name} must be positive sizes, got {pools!r}")


Pools = Annotated[tuple[int, ...], Rule(check_pools)]


def hierarchical_context(student: Tensor, teacher: Tensor, pools: tuple[int, ...] = (4, 2, 1)) -> Tensor:
    """Return ``(B,)``: squared error at full size and at pooled sizes, weighted 1, 1/2, 1/4, ... and averaged."""
    if student.dim() == 2:
        student, teacher = student[..., None, None], teacher[..., None, None]
    total = (student - teacher).square().flatten(1).mean(1)
    weight, weights = 1.0, 1.0
    for size in (p for p in pools if p < student.shape[2]):
        weight /= 2.0
        sizes = [size] * (student.dim() - 2)
        gap = shrink_map(student, sizes) - shrink_map(teacher, sizes)
        total = total + weight * gap.square().flatten(1).mean(1)
        weights += weight
    return total / weights


@loss_function
def reviewkd(
    student: Features, teacher: Features, *, pools: Pools = (4, 2, 1), reduction: Reduction = "mean"
) -> Tensor:
    """Compare fused student levels with teacher levels at several sizes of context.

    Sum over levels of ``[MSE + sum_j 2**-j MSE(pool_j)] / (1 + sum_j 2**-j)``; pool sizes that do not shrink the map
    are skipped. Chen et al., CVPR 2021, section 3.3 (HCL). The fusion of student levels is part of the module.

    Args:
        student: Fused features ``(B, C, H, W)``, ``(B, C, L)`` or pooled ``(B, C)``, one tensor or one per level.
        teacher: The same shapes, detached here.
        pools: Pool sizes, from large to small.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is unknown.

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(1, 1, 2, 2), torch.tensor([[[[2.0, 0.0], [0.0, 0.0]]]])
        >>> reviewkd(student, teacher)
        tensor(0.7500)
    """
    terms = []
    for s, t in as_levels(student, teacher):
        s, t = prepare_pair(s, t, what="features", min_dim=2)
        if s.dim() not in (2, 3, 4):
            raise ShapeError(f"features must be (B, C, H, W), (B, C, L) or (B, C), got {tuple(s.shape)}")
        terms.append(hierarchical_context(s, t, pools))
    return reduce_loss(torch.stack(terms).sum(0), reduction)


class Fusion(nn.Module):
    """Attention-based fusion of one student level with what came from the deeper levels.

    Args:
        channels_in: Channels of the student's level.
        channels_mid: Width of the stream that runs from deep to shallow.
        channels_out: Channels of the teacher's level.
        fuse: Whether a deeper level exists.
        dims: 2 for maps ``(B, C, H, W)``, 1 for ``(B, C, L)``.
    """

    def __init__(self, channels_in: int, channels_mid: int, channels_out: int, *, fuse: bool, dims: Dims = 2) -> None:
        super().__init__()
        self.reduce = conv_bn(channels_in, channels_mid, dims=dims)
        self.expand = conv_bn(channels_mid, channels_out, kernel=3, dims=dims)
        self.attention = nn.Sequential(convolution(dims, 2 * channels_mid, 2, 1), nn.Sigmoid()) if fuse else None

    def forward(self, level: Tensor, deeper: Tensor | None, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return the level in the teacher's channels, at `size`, and the stream for the next shallower level."""
        stream: Tensor = self.reduce(level)
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, stream.shape[2:], mode="nearest")
            maps = self.attention(torch.cat([stream, deeper], 1))
            stream = stream * maps[:, :1] + deeper * maps[:, 1:]
        out = stream if stream.shape[2:] == size else F.interpolate(stream, size, mode="nearest")
        return self.expand(out), stream


class ReviewKD(KDLoss):
    """Knowledge review; the distance is :func:`reviewkd`.

    Student levels are fused from the deepest to the shallowest and each is compared with the teacher's level of the
    same rank. A level may be a pooled vector ``(B, C)``; it is then a map of one place.

    Args:
        student_channels: Channels of the student's levels, shallow to deep.
        teacher_channels: Channels of the teacher's levels, shallow to deep.
        mid_channels: Width of the fused stream; by default the deepest student's, at most 512.
        pools: Pool sizes, from large to small.
        dims: 2 for maps ``(B, C, H, W)``, 1 for ``(B, C, L)``.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "reviewkd"
    signal: ClassVar[Signal] = "levels"
    channels_first: ClassVar[bool] = True

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        mid_channels: int | None = None,
        pools: tuple[int, ...] = (4, 2, 1),
        dims: Dims = 2,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_options(reviewkd, {"pools": pools})
        pairs = channel_pairs(student_channels, teacher_channels)
        if not pairs:
            raise ConfigError("ReviewKD needs at least one level, got no channels")
        mid = min(512, pairs[-1][0]) if mid_channels is None else mid_channels
        self.pools, self.dims = pools, dims
        last = len(pairs) - 1
        self.fusions = nn.ModuleList(Fusion(s, mid, t, fuse=i < last, dims=dims) for i, (s, t) in enumerate(pairs))

    def fuse(self, student: Sequence[Tensor], sizes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """Return the fused levels ``(B, C_t, H_t, W_t)`` or ``(B, C_t, L_t)``, shallow to deep."""
        fused: list[Tensor] = []
        stream: Tensor | None = None
        for fusion, level, size in zip(reversed(self.fusions), reversed(student), reversed(sizes), strict=True):
            out, stream = fusion(self._as_map(level), stream, size)
            fused.insert(0, out)
        return fused

    def _as_map(self, level: Tensor) -> Tensor:
        return level.reshape(*level.shape, *[1] * self.dims) if level.dim() == 2 else level

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Return the loss of lists of feature maps ``(B, C_l, H_l, W_l)``, shallow to deep."""
        levels = as_levels(student, teacher)
        if len(levels) != len(self.fusions):
            raise ValueError(f"built for {len(self.fusions)} levels, got {len(levels)}")
        goals = [self._as_map(t) for _, t in levels]
        fused = self.fuse([s for s, _ in levels], [tuple(t.shape[2:]) for t in goals])
        return reviewkd(fused, goals, pools=self.pools, reduction=self.reduction)
