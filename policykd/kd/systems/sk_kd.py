"""SK-KD: similarity-keeping distillation for low-density EEG (Huang, Chen, Wei, IEEE TETCI 2024, arXiv 2212.03329).

The teacher decodes all electrodes, the student a few electrodes of the same trials; besides the logits it keeps the
teacher's similarity between trials, measured by the correlation over time of every channel of a feature map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, full_precision, prepare_pair, reduce_loss


def keeping_gram(features: Tensor, *, centre: bool = True) -> Tensor:
    """Mean over channels of the correlation in time between the samples of a batch.

    Huang et al. 2024, in the form of the official code: every channel's time course is centred and divided by its
    norm, and ``G_ab`` is the mean over channels of the inner products, so ``G_aa = 1`` and ``|G_ab| <= 1``.

    Departure: where a map has more axes between batch and time than channels, the mean is over all of them (the
    published networks have one row there).

    Args:
        features: ``(B, C, ..., T)``, time last. A channel without variation has norm zero and contributes 0.
        centre: Subtract the mean over time; off for features without a time axis, given as ``(B, 1, D)``.

    Returns:
        ``(B, B)``.
    """
    courses = features.flatten(1, -2)
    courses = courses - courses.mean(-1, keepdim=True) if centre else courses
    flat = F.normalize(courses, dim=-1).flatten(1)
    return flat @ flat.T / courses.shape[1]


@full_precision
def similarity_keeping(
    student: Tensor | Sequence[Tensor],
    teacher: Tensor | Sequence[Tensor],
    *,
    centre: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Keep the teacher's similarity between the samples of a batch, block by block.

    ``sum_j 1 / B**2 || G_t - G_s ||_F**2`` over the blocks j, with ``keeping_gram``. Against ``sp``: amplitude and
    offset of every channel are removed, and rows are not normalised. The value depends on the batch by definition;
    under ``none`` sample i gets its row.

    Args:
        student: Feature map ``(B, C, ..., T)``, or several blocks of them.
        teacher: As many maps; channels and times may differ. Detached here.
        centre: See ``keeping_gram``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: numbers of blocks or samples differ, a value is not finite, or the reduction is unknown.
    """
    students = (student,) if isinstance(student, Tensor) else tuple(student)
    teachers = (teacher,) if isinstance(teacher, Tensor) else tuple(teacher)
    if len(students) != len(teachers) or not students:
        raise ValueError(f"student and teacher need as many blocks, got {len(students)} and {len(teachers)}")
    values = [_rows(own, other, centre) for own, other in zip(students, teachers, strict=True)]
    return reduce_loss(sum(values[1:], values[0]), reduction)


def _rows(student: Tensor, teacher: Tensor, centre: bool) -> Tensor:
    student, teacher = prepare_pair(student, teacher, what="feature maps", min_dim=3, same_shape=False)
    gap = keeping_gram(student, centre=centre) - keeping_gram(teacher, centre=centre)
    return gap.square().mean(1)
