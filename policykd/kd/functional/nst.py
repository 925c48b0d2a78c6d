"""Neuron selectivity transfer (Huang and Wang 2017)."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, full_precision, reduce_loss
from policykd.kd.functional.shapes import check_choice, prepare_maps


@full_precision
def nst(
    student: Tensor,
    teacher: Tensor,
    *,
    kernel: Literal["poly", "linear"] = "poly",
    reduction: Reduction = "mean",
) -> Tensor:
    """Match the distribution of the channels' spatial patterns.

    Squared maximum mean discrepancy between two sets of channels, each flattened over space and divided by its norm:
    ``mean k(t, t) + mean k(s, s) - 2 mean k(s, t)``, ``k(u, v) = (u' v)**2`` (``poly``) or ``u' v`` (``linear``).
    Huang and Wang 2017, eq. 4 to 7 [numbering recalled]. The teacher's own term is constant and kept, so equal
    networks give 0.

    Departure: larger maps are averaged down to the smaller size.

    Args:
        student: Feature maps ``(B, C, H, W)``; channels need not match.
        teacher: Feature maps ``(B, C', H', W')``, detached here.
        kernel: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: not four dimensions, batches differ, a value is not finite, or an option is unknown.
    """
    check_choice("kernel", kernel, ("poly", "linear"))
    student, teacher = prepare_maps(student, teacher)
    s, t = F.normalize(student.flatten(2), dim=2), F.normalize(teacher.flatten(2), dim=2)

    def mean_kernel(u: Tensor, v: Tensor) -> Tensor:
        products = u @ v.transpose(1, 2)
        return (products.square() if kernel == "poly" else products).mean((1, 2))

    return reduce_loss(mean_kernel(t, t) + mean_kernel(s, s) - 2.0 * mean_kernel(s, t), reduction)
