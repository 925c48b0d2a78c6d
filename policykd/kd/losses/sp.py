"""Similarity-preserving distillation (Tung and Mori 2019).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.losses._gather import gather_pair
from policykd.kd.shapes import prepare_embeddings


def similarity_matrix(features: Tensor) -> Tensor:
    """Return the row-normalized Gram matrix ``(B, B)`` of flattened features ``(B, D)``."""
    return F.normalize(features @ features.T, dim=1)


@loss_function
def sp(student: Tensor, teacher: Tensor, *, reduction: Reduction = "mean", gather_distributed: bool = False) -> Tensor:
    """Keep the teacher's pattern of which samples of a batch look alike.

    ``1 / B**2 || G_s - G_t ||_F**2``, ``G[i, :] = (Q Q')[i, :] / || (Q Q')[i, :] ||_2``. Tung and Mori, ICCV 2019,
    eq. 1 to 4. No departure; widths may differ. The value depends on the batch by definition (report B with a
    weight); under ``none`` sample i gets ``1 / B sum_j (G_s - G_t)[i, j]**2``. A sample of zero features has a zero
    row.

    Args:
        student: Features ``(B, ...)``, flattened here.
        teacher: Features ``(B, ...)``, detached here.
        reduction: How the values of shape ``(B,)`` are reduced.
        gather_distributed: Compare the samples of all processes; needs reduction ``mean`` or ``batchmean``.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: batches differ, a value is not finite, or the reduction is unknown.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0], [3.0, 4.0, 0.0]])
        >>> sp(student, teacher)
        tensor(0.3454)
    """
    student, teacher = gather_pair(student, teacher, gather_distributed, reduction)
    student, teacher = prepare_embeddings(student, teacher)
    gap = similarity_matrix(student) - similarity_matrix(teacher)
    return reduce_loss(gap.square().mean(1), reduction)


SP = loss_module(sp, signal="features", batch_coupled=True)
