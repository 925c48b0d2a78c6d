"""Correlation congruence (Peng et al. 2019).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, reduce_loss
from policykd.errors import ConfigError
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.losses._gather import gather_pair
from policykd.kd.options import Positive, Rule, above_zero
from policykd.kd.shapes import prepare_embeddings

Kernel = Literal["taylor", "rbf", "bilinear"]


def correlation(
    features: Tensor, *, kernel: Kernel = "taylor", gamma: float = 0.4, order: int = 2, normalize: bool = True
) -> Tensor:
    """Return the correlation matrix ``(B, B)`` of embeddings ``(B, D)`` under a kernel."""
    features = F.normalize(features, dim=1) if normalize else features
    if kernel == "rbf":
        gaps = features[:, None] - features[None]
        return torch.exp(-gamma * gaps.square().sum(2))
    similarity = features @ features.T
    if kernel == "bilinear":
        return similarity
    # Horner's rule for sum_p (2 gamma s)**p / p!
    total = torch.ones_like(similarity)
    for p in range(order, 0, -1):
        total = 1.0 + total * similarity * (2.0 * gamma / p)
    return math.exp(-2.0 * gamma) * total


@loss_function
def cc(
    student: Tensor,
    teacher: Tensor,
    *,
    variant: Literal["paper", "adjacent"] = "paper",
    kernel: Kernel = "taylor",
    gamma: Positive = 0.4,
    order: Annotated[int, Rule(above_zero)] = 2,
    normalize: bool = True,
    reduction: Reduction = "mean",
    gather_distributed: bool = False,
) -> Tensor:
    """Keep the teacher's correlations between the samples of a batch.

    ``paper``: ``1 / B**2 || C_s - C_t ||_F**2`` with ``C_ij = exp(-2 g) sum_{p <= P} (2 g)**p / p! (f_i' f_j)**p`` on
    unit vectors, the truncated Gaussian kernel. Peng et al., ICCV 2019, eq. 6 to 8 [numbering recalled].
    ``adjacent``: mean over neighbors of the batch of ``sum_d |f_s - f_t|_i |f_s - f_t|_{i+1}``, a product of errors,
    not of correlations: what the widely used benchmark code computes. It needs equal widths and depends on the order
    of the batch.

    Both depend on the batch by definition. Under ``none`` sample i gets its row; with ``adjacent`` the product with its
    successor, scaled by ``B / (B - 1)`` so that the mean is the published one (the last sample gets 0).

    Args:
        student: Features ``(B, ...)``, flattened here.
        teacher: Features ``(B, ...)``, detached here.
        variant: See above; the options below concern ``paper`` only.
        kernel: ``taylor``, the exact ``rbf``, or ``bilinear``.
        gamma: g > 0 of the Gaussian kernel.
        order: P >= 1, terms of the series.
        normalize: Divide every embedding by its norm; the series is only valid then.
        reduction: How the values of shape ``(B,)`` are reduced.
        gather_distributed: Compare the samples of all processes; needs reduction ``mean`` or ``batchmean``.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0], [3.0, 4.0, 0.0]])
        >>> cc(student, teacher)
        tensor(0.0358)
    """
    if not normalize and kernel == "taylor":
        raise ConfigError("the Taylor kernel needs normalize=True: its series is that of unit vectors")
    student, teacher = gather_pair(student, teacher, gather_distributed, reduction)
    student, teacher = prepare_embeddings(student, teacher, same_width=variant == "adjacent")
    if variant == "adjacent":
        return reduce_loss(_adjacent(student, teacher), reduction)
    first = correlation(student, kernel=kernel, gamma=gamma, order=order, normalize=normalize)
    second = correlation(teacher, kernel=kernel, gamma=gamma, order=order, normalize=normalize)
    return reduce_loss((first - second).square().mean(1), reduction)


def _adjacent(student: Tensor, teacher: Tensor) -> Tensor:
    batch = student.shape[0]
    if batch < 2:
        raise ValueError(f"cc with variant='adjacent' compares neighbors and needs two samples, got {batch}")
    gap = (student - teacher).abs()
    products = (gap[:-1] * gap[1:]).sum(1) * (batch / (batch - 1))
    return F.pad(products, (0, 1))


CC = loss_module(cc, signal="features", batch_coupled=True)
