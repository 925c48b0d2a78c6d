"""Hierarchical context loss of knowledge review (Chen et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, full_precision, prepare_pair, reduce_loss
from policykd.kd.functional.shapes import Features, as_levels


def hierarchical_context(student: Tensor, teacher: Tensor, pools: tuple[int, ...] = (4, 2, 1)) -> Tensor:
    """Return ``(B,)``: squared error at full size and at pooled sizes, weighted 1, 1/2, 1/4, ... and averaged."""
    if student.dim() == 2:
        student, teacher = student[..., None, None], teacher[..., None, None]
    total = (student - teacher).square().flatten(1).mean(1)
    weight, weights = 1.0, 1.0
    for size in (p for p in pools if p < student.shape[2]):
        weight /= 2.0
        gap = F.adaptive_avg_pool2d(student, size) - F.adaptive_avg_pool2d(teacher, size)
        total = total + weight * gap.square().flatten(1).mean(1)
        weights += weight
    return total / weights


@full_precision
def reviewkd(
    student: Features, teacher: Features, *, pools: tuple[int, ...] = (4, 2, 1), reduction: Reduction = "mean"
) -> Tensor:
    """Compare fused student levels with teacher levels at several sizes of context.

    Sum over levels of ``[MSE + sum_j 2**-j MSE(pool_j)] / (1 + sum_j 2**-j)``; pool sizes that do not shrink the map
    are skipped. Chen et al., CVPR 2021, section 3.3 (HCL). The fusion of student levels lives in the module twin.

    Args:
        student: Fused features ``(B, C, H, W)`` or pooled ``(B, C)``, one tensor or one per level.
        teacher: The same shapes, detached here.
        pools: Pool sizes, from large to small.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is unknown.
    """
    if any(p < 1 for p in pools):
        raise ValueError(f"pools must be positive sizes, got {pools!r}")
    terms = []
    for s, t in as_levels(student, teacher):
        s, t = prepare_pair(s, t, what="features", min_dim=2)
        if s.dim() not in (2, 4):
            raise ValueError(f"features must be (B, C, H, W) or (B, C), got {tuple(s.shape)}")
        terms.append(hierarchical_context(s, t, pools))
    return reduce_loss(torch.stack(terms).sum(0), reduction)
