"""Self-supervision by rotations and its use in distillation (Xu et al., ECCV 2020): views, similarity, terms.

Views of one image come one after another: the original, then the turned ones, so that row ``i`` of ``4 B`` rows belongs
to image ``i // 4`` and is an original where ``i % 4 == 0``. Nothing here may shuffle them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction, full_precision
from policykd.errors import check_range
from policykd.kd import functional as kf
from policykd.kd.shapes import check_labels

VIEWS = 4  # 0, 90, 180 and 270 degrees


def rotated_views(images: Tensor) -> Tensor:
    """Return every image as it is and turned by 90, 180 and 270 degrees.

    Args:
        images: ``(B, C, H, W)``, square.

    Returns:
        ``(B, 4, C, H, W)``: view 0 is the original.

    Raises:
        ValueError: The images are not square.
    """
    if images.dim() != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images must be square, (B, C, H, W), got {tuple(images.shape)}")
    return torch.stack([torch.rot90(images, turns, (2, 3)) for turns in range(VIEWS)], 1)


def split_views(values: Tensor) -> tuple[Tensor, Tensor]:
    """Split values of views ``(4 B, ...)``, four after one another per image, into originals and rotated views.

    Returns:
        ``(B, ...)`` and ``(3 B, ...)``, row j of the latter from image ``j // 3``.

    Raises:
        ValueError: The number of rows is not a multiple of four.
    """
    if len(values) % VIEWS:
        raise ValueError(f"{len(values)} rows are not a whole number of images with {VIEWS} views")
    views = values.unflatten(0, (-1, VIEWS))
    return views[:, 0], views[:, 1:].flatten(0, 1)


class SimilarityHead(nn.Module):
    """The head ``W_2 relu(W_1 f + b_1) + b_2`` on pooled features, all of one width, that is thrown away in the end.

    Args:
        width: Width d of the features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, d)`` to ``(N, d)``."""
        return self.layers(features)


def view_similarity(values: Tensor) -> Tensor:
    """Return the cosine between rotated and original views.

    Args:
        values: Outputs of the head for all views ``(4 B, d)``, four after one another per image.

    Returns:
        ``(3 B, B)``: row j holds the similarities of rotated view j to every original.
    """
    normal, rotated = split_views(F.normalize(values, dim=1))
    return rotated @ normal.T


def originals(similarity: Tensor) -> Tensor:
    """Return the right answers for the rows of a similarity ``(3 B, B)``: the image that a rotated view comes from."""
    rows, batch = similarity.shape
    return torch.arange(batch, device=similarity.device).repeat_interleave(rows // batch)


def head_loss(similarity: Tensor) -> Tensor:
    """Return the loss that trains the teacher's head: cross-entropy of the rows with the true original, at T = 1."""
    return F.cross_entropy(similarity, originals(similarity))


def error_level(scores: Tensor, target: Tensor) -> Tensor:
    """Return the rank of the truth in the scores, 0 for the best; of equal scores the one of lower index comes first.

    Args:
        scores: ``(N, C)``.
        target: Right column ``(N,)``.

    Returns:
        ``(N,)`` in int64.
    """
    target = check_labels(scores, target)[:, None]
    own = scores.gather(1, target)
    first = torch.arange(scores.shape[1], device=scores.device) < target
    return ((scores > own) | ((scores == own) & first)).sum(1)


def selected(levels: Tensor, share: float) -> Tensor:
    """Select all rows with level 0 and the share of the others (rounded down) with the lowest levels.

    Args:
        levels: Error levels ``(N,)``; of equal levels earlier rows come first.
        share: k in [0, 1].

    Returns:
        Positions of the kept rows, in their order.

    Raises:
        ValueError: The share is out of range.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must be in [0, 1], got {share!r}")
    correct = int((levels == 0).sum())
    kept = correct + int(share * (len(levels) - correct))
    return levels.argsort(dim=0, stable=True)[:kept].sort().values


@full_precision
def selective_kd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    temperature: float,
    share: float,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return ``T**2 KL(teacher || student)`` over the rows on which the teacher is good enough.

    Args:
        student: Scores ``(N, C)``: class logits, or a similarity ``(3 B, B)``.
        teacher: Scores ``(N, C)``, detached here.
        target: Right column ``(N,)``, which orders the rows by the teacher's error.
        temperature: T > 0.
        share: Share k of the wrong rows that is kept.
        reduction: Over kept rows; without any the value is 0.

    Raises:
        ValueError: shapes differ or an option is out of range.
    """
    if share == 1.0:  # every row is kept: no need to rank them
        return kf.kd(student, teacher, temperature=temperature, reduction=reduction)
    rows = selected(error_level(teacher.detach(), target), share)
    if not len(rows):
        return student.sum() * 0.0
    return kf.kd(student[rows], teacher[rows], temperature=temperature, reduction=reduction)


@dataclass(frozen=True)
class ViewOutputs:
    """Outputs of a network and its head for the views of a batch, four rows after one another per image.

    Attributes:
        logits: Class logits ``(4 B, C)``.
        embeddings: Outputs of the head ``(4 B, d)``.
    """

    logits: Tensor
    embeddings: Tensor


@dataclass(frozen=True)
class SSKDTerms:
    """Weights, temperatures and shares of the four terms; the defaults are the published ones.

    Attributes:
        temperature: T of plain distillation.
        ce_weight: Weight of the cross-entropy with the labels on originals.
        kd_weight: Weight of plain distillation on originals.
        rotated_weight: Weight of distillation on rotated views.
        similarity_weight: Weight of the similarity between rotated views and originals.
        rotated_temperature: T on rotated views.
        similarity_temperature: T on rows of the similarity.
        rotated_share: Share that is kept of the rotated views whose class the teacher gets wrong.
        similarity_share: Share that is kept of the rows of the similarity whose original the teacher gets wrong.

    Raises:
        ConfigError: A share is outside [0, 1], or a weight or temperature is out of range.
    """

    temperature: float = 4.0
    ce_weight: float = 0.1
    kd_weight: float = 0.9
    rotated_weight: float = 2.7
    similarity_weight: float = 10.0
    rotated_temperature: float = 4.0
    similarity_temperature: float = 0.5
    rotated_share: float = 1.0
    similarity_share: float = 0.75

    def __post_init__(self) -> None:
        for name in ("rotated_share", "similarity_share"):
            check_range(name, getattr(self, name), 0.0, 1.0)
        for name in ("ce_weight", "kd_weight", "rotated_weight", "similarity_weight"):
            check_range(name, getattr(self, name), 0.0, 1e6)
        for name in ("temperature", "rotated_temperature", "similarity_temperature"):
            check_range(name, getattr(self, name), 1e-6, 1e6)

    def objective(self, student: ViewOutputs, teacher: ViewOutputs, labels: Tensor) -> Tensor:
        """Return the weighted sum of the four terms.

        Args:
            student: The student's outputs.
            teacher: The teacher's, without a graph.
            labels: Classes of the images ``(B,)``.
        """
        normal, rotated = split_views(student.logits)
        normal_t, rotated_t = split_views(teacher.logits)
        similar, similar_t = view_similarity(student.embeddings), view_similarity(teacher.embeddings)
        rotated_labels = labels.repeat_interleave(VIEWS - 1)
        return (
            self.ce_weight * F.cross_entropy(normal, labels)
            + self.kd_weight * kf.kd(normal, normal_t, temperature=self.temperature)
            + self.rotated_weight
            * selective_kd(
                rotated, rotated_t, rotated_labels, temperature=self.rotated_temperature, share=self.rotated_share
            )
            + self.similarity_weight * self.similarity(similar, similar_t)
        )

    def similarity(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the unweighted term on similarities ``(3 B, B)``."""
        return selective_kd(
            student,
            teacher,
            originals(teacher),
            temperature=self.similarity_temperature,
            share=self.similarity_share,
        )
