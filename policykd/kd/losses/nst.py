"""Neuron selectivity transfer (Huang and Wang 2017).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.shapes import Features, as_levels, prepare_maps


@loss_function
def nst(
    student: Features,
    teacher: Features,
    *,
    kernel: Literal["poly", "linear"] = "poly",
    reduction: Reduction = "mean",
) -> Tensor:
    """Match the distribution of the channels' spatial patterns.

    Squared maximum mean discrepancy between two sets of channels, each flattened over space and divided by its norm:
    ``mean k(t, t) + mean k(s, s) - 2 mean k(s, t)``, ``k(u, v) = (u' v)**2`` (``poly``) or ``u' v`` (``linear``).
    Huang and Wang 2017, eq. 4 to 7 [numbering recalled]. The teacher's own term is constant and kept, so equal
    networks give 0. Several levels are added.

    Departure: larger maps are averaged down to the smaller size.

    Args:
        student: Feature maps ``(B, C, H, W)`` or ``(B, C, L)``, one tensor or one per level; channels need not match.
        teacher: Feature maps ``(B, C', H', W')``, detached here.
        kernel: See above.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: not four dimensions, batches differ, a value is not finite, or an option is unknown.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]), torch.tensor([[[[3.0, 4.0], [0.0, 0.0]]]])
        >>> nst(student, teacher)
        tensor(1.2800)
    """

    def mean_kernel(u: Tensor, v: Tensor) -> Tensor:
        products = u @ v.transpose(1, 2)
        return (products.square() if kernel == "poly" else products).mean((1, 2))

    terms = []
    for s, t in as_levels(student, teacher):
        s, t = (F.normalize(maps.flatten(2), dim=2) for maps in prepare_maps(s, t))
        terms.append(mean_kernel(t, t) + mean_kernel(s, s) - 2.0 * mean_kernel(s, t))
    return reduce_loss(torch.stack(terms).sum(0), reduction)


NST = loss_module(nst, signal="features", channels_first=True)
