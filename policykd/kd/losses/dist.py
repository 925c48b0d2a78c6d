"""DIST: relations within and between samples by correlation (Huang et al. 2022).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.losses._gather import gather_pair
from policykd.kd.options import Temperature
from policykd.kd.shapes import prepare_logits

Variant = Literal["paper", "code"]


def pearson(first: Tensor, second: Tensor, *, dim: int, variant: Variant = "paper") -> Tensor:
    """Pearson correlation along `dim`; a side with a spread below 1e-12 counts as constant and gives 0."""
    first = first - first.mean(dim, keepdim=True)
    second = second - second.mean(dim, keepdim=True)
    if variant == "code":
        return (first * second).sum(dim) / (first.norm(dim=dim) * second.norm(dim=dim) + 1e-8)
    return (F.normalize(first, dim=dim) * F.normalize(second, dim=dim)).sum(dim)


@loss_function
def dist(
    student: Tensor,
    teacher: Tensor,
    *,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
    temperature: Temperature = 1.0,
    scale_t2: bool = True,
    variant: Variant = "paper",
    reduction: Reduction = "mean",
    gather_distributed: bool = False,
) -> Tensor:
    """Ask for the teacher's ranking of classes and of samples, not for its probabilities.

    ``T**2 (w_b mean_i [1 - rho(p_s[i, :], p_t[i, :])] + w_c mean_c [1 - rho(p_s[:, c], p_t[:, c])])``, rho Pearson's
    correlation of the softened probabilities. Huang et al., NeurIPS 2022, eq. 8 to 10 [numbering recalled].

    The second term compares whole columns, so the loss depends on the batch by definition; under ``none`` it is added
    to every sample equally. ``T**2`` is the authors' code. A constant row or column has correlation 0.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        inter_weight: w_b, correlation over the classes of a sample.
        intra_weight: w_c, correlation over the samples of a class.
        temperature: T > 0.
        scale_t2: Multiply by ``T**2``.
        variant: ``paper`` is exact; ``code`` adds 1e-8 to the product of the norms, which shows at high temperature.
        reduction: How the values of shape ``(B,)`` are reduced.
        gather_distributed: Compare the samples of all processes; needs reduction ``mean`` or ``batchmean``.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
        >>> teacher = torch.tensor([[3.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
        >>> dist(student, teacher)
        tensor(1.4249)
    """
    student, teacher = gather_pair(student, teacher, gather_distributed, reduction)
    student, teacher = prepare_logits(student, teacher)
    p_s, p_t = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
    inter = 1.0 - pearson(p_s, p_t, dim=1, variant=variant)
    intra = 1.0 - pearson(p_s, p_t, dim=0, variant=variant).mean()
    values = inter_weight * inter + intra_weight * intra
    return reduce_loss(values * temperature**2 if scale_t2 else values, reduction)


DIST = loss_module(dist, batch_coupled=True)
