"""How a teacher's modalities relate: the Gram matrix across modalities, per sample (Liu 2021).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, categorical_kl, prepare_pair, reduce_loss
from policykd.kd.losses._function import loss_function, loss_module


def gram_matrix(features: Tensor, *, normalize: bool = True) -> Tensor:
    """Return the Gram matrix across the modalities of each sample: ``G = F F'``.

    Args:
        features: Embeddings ``(B, M, d)``.
        normalize: Scale every embedding to length one (zero stays zero), so that G holds cosines; else divide G by d.

    Returns:
        ``(B, M, M)``.
    """
    rows = F.normalize(features, dim=-1) if normalize else features / features.shape[-1] ** 0.5
    return rows @ rows.transpose(1, 2)


def pairwise_cosines(features: Tensor) -> Tensor:
    """Return the cosines of all pairs of modalities: ``(B, M, d)`` to ``(B, M (M - 1) / 2)``."""
    rows, columns = torch.triu_indices(features.shape[1], features.shape[1], 1)
    return gram_matrix(features)[:, rows, columns]


@loss_function
def modality_gram(
    student: Tensor,
    teacher: Tensor,
    *,
    variant: Literal["per_sample", "off_diagonal", "batch", "raw", "probability"] = "per_sample",
    present: Sequence[int] | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Keep how the embeddings of a sample's modalities relate in the teacher.

    ``1 / M**2 || G_t - G_s ||_F**2`` per sample. Liu, Multi-Modality Distillation via Learning the teacher's
    modality-level Gram Matrix, arXiv 2112.11447. The matrix runs over modalities, not over channels (``ickd``) or
    samples (``sp``); its size does not depend on the networks' widths.

    Departures: only the abstract was readable; formula, normalization and variants are our construction.

    Variants: ``per_sample`` (cosines); ``off_diagonal`` divides by ``M (M - 1)``, since the diagonal never differs;
    ``batch`` concatenates a modality's embeddings over the batch before the cosine, which gives one value in all;
    ``raw`` leaves lengths in and divides G by the width; ``probability`` is the KL of row softmaxes of G, teacher
    first, averaged over rows.

    Args:
        student: Embeddings ``(B, M, d)``.
        teacher: Embeddings ``(B, M', d')``, detached here; the widths may differ.
        variant: See above.
        present: Positions among the teacher's modalities of those that the student has, where it lacks some.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, a value is not finite, or an option is unknown.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]])
        >>> student = torch.tensor([[[1.0, 0.0], [0.8, 0.6], [-1.0, 0.0]]])
        >>> modality_gram(student, teacher)
        tensor(0.3733)
    """
    student, teacher = _checked_embeddings(student, teacher, present)
    if variant == "batch":
        student, teacher = (f.transpose(0, 1).flatten(1)[None] for f in (student, teacher))
    own, other = (gram_matrix(f, normalize=variant != "raw") for f in (student, teacher))
    if variant == "probability":
        return reduce_loss(categorical_kl(own, other, reduction="none").mean(1), reduction)
    count = own.shape[1]
    entries = max(count * (count - 1), 1) if variant == "off_diagonal" else count**2
    return reduce_loss((own - other).square().sum((1, 2)) / entries, reduction)


ModalityGram = loss_module(modality_gram, "ModalityGram", signal="features")


def _checked_embeddings(student: Tensor, teacher: Tensor, present: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    student, teacher = prepare_pair(student, teacher, what="modality embeddings", same_shape=False)
    if student.dim() != 3 or teacher.dim() != 3:
        raise ValueError(
            f"modality embeddings must be (B, M, d), got student {tuple(student.shape)}, teacher {tuple(teacher.shape)}"
        )
    if present is not None:
        if len(present) and not 0 <= min(present) <= max(present) < teacher.shape[1]:
            raise ValueError(f"present must be in [0, {teacher.shape[1] - 1}], got {list(present)}")
        teacher = teacher[:, list(present)]
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"the student has {student.shape[1]} modalities, the teacher {teacher.shape[1]}; name those that the "
            "student has in present"
        )
    return student, teacher
