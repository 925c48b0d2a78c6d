"""Flow of the solution procedure (Yim et al. 2017).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from policykd.divergences import Reduction, prepare_pair, reduce_loss
from policykd.errors import ShapeError
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.shapes import Pool, as_levels, match_size


def fsp_matrix(low: Tensor, high: Tensor, *, pool: Pool = "max") -> Tensor:
    """Return ``(B, C_low, C_high)``: the mean over places of the product of two maps, pooled to one size."""
    low, high = match_size(low, high, pool)
    return low.flatten(2) @ high.flatten(2).transpose(1, 2) / low[0, 0].numel()


@loss_function
def fsp(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    *,
    variant: Literal["code", "paper"] = "code",
    reduction: Reduction = "mean",
) -> Tensor:
    """Copy how one level's features turn into the next level's.

    Sum over successive levels of the squared difference of the matrices ``G_ij = mean_hw F_i F'_j``. Yim et al., CVPR
    2017, eq. 1 and 2. Variants: ``paper`` max-pools to match sizes and sums the squares of a matrix; ``code``
    average-pools and takes their mean.

    Args:
        student: At least two feature maps ``(B, C_l, H_l, W_l)`` or ``(B, C_l, L_l)``.
        teacher: As many maps with the same channels, detached here; sizes may differ.
        variant: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: too few levels, channels differ, a value is not finite, or an option is unknown.

    Example:
        >>> import torch
        >>> low, high = torch.ones(1, 1, 2, 2), torch.ones(1, 2, 1, 1)
        >>> fsp([low, high], [low, 3.0 * high])
        tensor(4.)
    """
    pool: Pool = "max" if variant == "paper" else "avg"
    pairs = [
        prepare_pair(s, t, what="feature maps", min_dim=3, same_shape=False)
        for s, t in as_levels(student, teacher, at_least=2)
    ]
    terms = []
    for (low_s, low_t), (high_s, high_t) in pairwise(pairs):
        flow_s, flow_t = fsp_matrix(low_s, high_s, pool=pool), fsp_matrix(low_t, high_t, pool=pool)
        if flow_s.shape != flow_t.shape:
            shapes = f"got {tuple(flow_s.shape[1:])} and {tuple(flow_t.shape[1:])}"
            raise ShapeError(f"FSP needs equal channels of student and teacher at every level, {shapes}")
        squares = (flow_s - flow_t).square().flatten(1)
        terms.append(squares.mean(1) if variant == "code" else squares.sum(1))
    return reduce_loss(torch.stack(terms).sum(0), reduction)


FSP = loss_module(fsp, signal="levels", channels_first=True)
