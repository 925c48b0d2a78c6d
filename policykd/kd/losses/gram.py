"""Loss between the Gram matrices of student and teacher across the modalities of a sample.

Liu, Multi-Modality Distillation via Learning the teacher's modality-level Gram Matrix (arXiv 2112.11447). The matrix
runs over modalities: it is neither the Gram matrix over channels (ICKD) nor the one over samples (SP). Its size
does not depend on the networks' widths.

Departures: only the abstract was readable. The formula, its normalization and its variants are our construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, categorical_kl, full_precision, prepare_pair, reduce_loss
from policykd.kd.options import check_choice

Variant = Literal["per_sample", "off_diagonal", "batch", "raw", "probability"]


def modality_gram(features: Tensor, *, normalize: bool = True) -> Tensor:
    """Return the Gram matrix across the modalities of each sample: ``G = F F'``.

    Args:
        features: Embeddings ``(B, M, d)``.
        normalize: Scale every embedding to length one (zero stays zero), so that G holds cosines; else divide G by d.

    Returns:
        One matrix per sample ``(B, M, M)``.
    """
    rows = F.normalize(features, dim=-1) if normalize else features / features.shape[-1] ** 0.5
    return rows @ rows.transpose(1, 2)


@full_precision
def gram_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    variant: Variant = "per_sample",
    present: Sequence[int] | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return the squared difference of modality-level Gram matrices: ``1 / M**2 || G_t - G_s ||_F**2`` per sample.

    Variants: ``per_sample`` (cosines); ``off_diagonal`` divides by ``M (M - 1)``, since the diagonal never differs;
    ``batch`` concatenates a modality's embeddings over the batch before the cosine, which gives one value in all;
    ``raw`` leaves lengths in and divides G by the width; ``probability`` is the KL of row softmaxes of G, teacher
    first, averaged over rows.

    Args:
        student: Embeddings ``(B, M, d)``.
        teacher: Embeddings ``(B, M', d')``, detached here; the widths may differ.
        variant: One of the variants above.
        present: Positions, among the teacher's modalities, of those that the student has; None for all.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: An input is not a floating-point tensor.
        ValueError: Shapes do not fit, a value is not finite, or an option is unknown.
    """
    check_choice("variant", variant, ("per_sample", "off_diagonal", "batch", "raw", "probability"))
    student, teacher = _checked_embeddings(student, teacher, present)
    if variant == "batch":
        student, teacher = (f.transpose(0, 1).flatten(1)[None] for f in (student, teacher))
    own, taught = (modality_gram(f, normalize=variant != "raw") for f in (student, teacher))
    if variant == "probability":
        return reduce_loss(categorical_kl(own, taught, reduction="none").mean(1), reduction)
    count = own.shape[1]
    entries = max(count * (count - 1), 1) if variant == "off_diagonal" else count**2
    return reduce_loss((own - taught).square().sum((1, 2)) / entries, reduction)


def pairwise_cosines(features: Tensor) -> Tensor:
    """Return the cosines ``(B, M (M - 1) / 2)`` of all pairs of modalities of embeddings ``(B, M, d)``."""
    rows, columns = torch.triu_indices(features.shape[1], features.shape[1], 1)
    return modality_gram(features)[:, rows, columns]


def _checked_embeddings(student: Tensor, teacher: Tensor, present: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    student, teacher = prepare_pair(student, teacher, what="modality embeddings", same_shape=False)
    if student.dim() != 3 or teacher.dim() != 3:
        raise ValueError(
            f"modality embeddings must be (B, M, d), got student {tuple(student.shape)}, teacher {tuple(teacher.shape)}"
        )
    if present is not None:
        if len(present) and not 0 <= min(present) <= max(present) < teacher.shape[1]:
            raise ValueError(f"present must be positions in [0, {teacher.shape[1] - 1}], got {list(present)}")
        teacher = teacher[:, list(present)]
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"the student has {student.shape[1]} modalities, the teacher {teacher.shape[1]}; name those that the "
            "student has in present"
        )
    return student, teacher
