"""Similarity between samples by the correlation over time of every channel (SK-KD, Huang et al. 2024).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, prepare_pair, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module


def keeping_gram(features: Tensor, *, center: bool = True) -> Tensor:
    """Return the mean over channels of the correlation in time between the samples of a batch.

    Every channel's time course is centered and divided by its norm, and ``G_ab`` is the mean over channels of the inner
    products, so ``G_aa = 1`` and ``|G_ab| <= 1``.

    Departure: where a map has more axes between batch and time than channels, the mean is over all of them (the
    published networks have one row there).

    Args:
        features: ``(B, C, ..., T)``, time last. A channel without variation has norm zero and contributes 0.
        center: Subtract the mean over time; off for features without a time axis, given as ``(B, 1, D)``.

    Returns:
        ``(B, B)``.
    """
    courses = features.flatten(1, -2)
    courses = courses - courses.mean(-1, keepdim=True) if center else courses
    flat = F.normalize(courses, dim=-1).flatten(1)
    return flat @ flat.T / courses.shape[1]


@loss_function
def similarity_keeping(
    student: Tensor | Sequence[Tensor],
    teacher: Tensor | Sequence[Tensor],
    *,
    center: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Keep the teacher's similarity between the samples of a batch, block by block.

    ``sum_j 1 / B**2 || G_t - G_s ||_F**2`` over the blocks j, with :func:`keeping_gram`. Huang, Chen, Wang, IEEE TETCI
    8(2), 2024, arXiv 2212.03329, in the form of the official code. Against ``sp``: amplitude and offset of every
    channel are removed, and rows are not normalized. The value depends on the batch by definition; under ``none``
    sample i gets its row.

    Args:
        student: Feature map ``(B, C, ..., T)``, or several blocks of them.
        teacher: The same number of maps; channels and times may differ. Detached here.
        center: See :func:`keeping_gram`.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: numbers of blocks or samples differ, a value is not finite, or the reduction is unknown.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[1.0, 2.0, 3.0]], [[3.0, 2.0, 1.0]]]), torch.eye(3)[:2, None]
        >>> similarity_keeping(student, teacher)
        tensor(0.1250)
    """
    students = (student,) if isinstance(student, Tensor) else tuple(student)
    teachers = (teacher,) if isinstance(teacher, Tensor) else tuple(teacher)
    if len(students) != len(teachers) or not students:
        raise ValueError(f"student and teacher need the same number of blocks, got {len(students)} and {len(teachers)}")
    values = [_rows(own, other, center) for own, other in zip(students, teachers, strict=True)]
    return reduce_loss(sum(values[1:], values[0]), reduction)


SimilarityKeeping = loss_module(similarity_keeping, "SimilarityKeeping", signal="features", batch_coupled=True)


def _rows(student: Tensor, teacher: Tensor, center: bool) -> Tensor:
    student, teacher = prepare_pair(student, teacher, what="feature maps", min_dim=3, same_shape=False)
    gap = keeping_gram(student, center=center) - keeping_gram(teacher, center=center)
    return gap.square().mean(1)
