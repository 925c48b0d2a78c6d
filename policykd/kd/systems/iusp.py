"""IUSP: intra-utterance similarity preserving distillation (Chang, Kao, Sun, Wang, Interspeech 2020, arXiv 2009.01759).

Similarity-preserving distillation (``sp``) compares the clips of a batch with one another; ``iusp`` compares the time
frames inside one clip. Both work on frame-level activations; multi-label teachers are distilled by ``binary_kd``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, check_temperature, full_precision, prepare_pair, reduce_loss
from policykd.kd.functional.sp import similarity_matrix


@full_precision
def iusp(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None, reduction: Reduction = "mean") -> Tensor:
    """Keep the teacher's pattern of which frames of a clip look alike.

    ``1 / t**2 || G_s - G_t ||_F**2`` per clip, ``G[i, :] = (A A')[i, :] / || (A A')[i, :] ||_2`` over the frames of the
    clip: the loss ``sp`` of every clip as if its frames were a batch. Chang et al. 2020; the full text was not
    available: the similarity is that of the abstract, its normalisation that of ``sp``, on which the paper builds.

    Departures: the mean over clips, average-pooling of the longer of two frame sequences, and masks are choices made
    here. Frames without activation have zero rows.

    Args:
        student: Frame-level activations ``(B, T, ...)``, time second (see ``frames_first``); flattened per frame.
        teacher: The same for the teacher ``(B, T', ...)``, detached here.
        mask: Which frames are real ``(B, T)``, boolean; padded ones leave rows, columns and t. Needs ``T == T'``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: shapes do not fit, a clip has no real frame, a value is not finite, or the reduction is unknown.
    """
    student, teacher = prepare_pair(student, teacher, what="frames", min_dim=3, same_shape=False)
    student, teacher = _same_rate(student.flatten(2), teacher.flatten(2), masked=mask is not None)
    batch, frames = student.shape[:2]
    if mask is not None:
        student, teacher = (
            torch.where(_checked_mask(mask, batch, frames)[..., None], a, 0.0) for a in (student, teacher)
        )
    gap = torch.vmap(similarity_matrix)(student) - torch.vmap(similarity_matrix)(teacher)
    count = mask.sum(1) if mask is not None else torch.full((batch,), frames, device=gap.device)
    return reduce_loss(gap.square().sum((1, 2)) / count.square(), reduction)


def frames_first(maps: Tensor) -> Tensor:
    """Bring convolutional maps ``(B, C, T, F)`` (time before frequency) into frames ``(B, T, C F)``."""
    if maps.dim() != 4:
        raise ValueError(f"maps must be (B, C, T, F), got {tuple(maps.shape)}")
    return maps.transpose(1, 2).flatten(2)


@full_precision
def binary_kd(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 2.0,
    scale_t2: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """Distil independent labels: ``BCE(sigmoid(z_s / T), sigmoid(z_t / T))``, the mean over labels.

    A cross-entropy: at ``student = teacher`` its value is the teacher's entropy and its gradient is zero.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        temperature: T > 0.
        scale_t2: Multiply by ``T**2``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is out of range.
    """
    check_temperature(temperature)
    student, teacher = prepare_pair(student, teacher, min_dim=2)
    soft = torch.sigmoid(teacher / temperature)
    values = F.binary_cross_entropy_with_logits(student / temperature, soft, reduction="none").mean(-1)
    return reduce_loss(values * temperature**2 if scale_t2 else values, reduction)


def micro_average_precision(scores: Tensor, labels: Tensor) -> float:
    """Average precision over all (clip, tag) decisions at once, as in urban sound tagging.

    Args:
        scores: ``(N, C)`` or ``(N,)``, higher is more likely.
        labels: 0 or 1, same shape.

    Raises:
        ValueError: Shapes differ, or no label is positive.
    """
    from sklearn.metrics import average_precision_score

    if scores.shape != labels.shape:
        raise ValueError(f"scores {tuple(scores.shape)} and labels {tuple(labels.shape)} need one shape")
    if not bool((labels > 0).any()):
        raise ValueError("average precision needs at least one positive label")
    return float(average_precision_score(labels.flatten().numpy() > 0, scores.detach().flatten().numpy()))


def relative_gain(baseline: float, reference: float, method: float) -> float:
    """By which share a method's improvement over the baseline exceeds a reference's: 0.27 is 27 % more.

    Raises:
        ValueError: The reference does not improve on the baseline; the ratio would mean nothing.
    """
    if not reference > baseline:
        raise ValueError(f"the reference ({reference}) must improve on the baseline ({baseline})")
    return (method - reference) / (reference - baseline)


def _same_rate(student: Tensor, teacher: Tensor, *, masked: bool) -> tuple[Tensor, Tensor]:
    if student.shape[1] == teacher.shape[1]:
        return student, teacher
    if masked:
        raise ValueError(f"a mask needs equal frame rates, got {student.shape[1]} and {teacher.shape[1]} frames")
    frames = min(student.shape[1], teacher.shape[1])
    return _pooled(student, frames), _pooled(teacher, frames)


def _pooled(features: Tensor, frames: int) -> Tensor:
    return F.adaptive_avg_pool1d(features.transpose(1, 2), frames).transpose(1, 2)


def _checked_mask(mask: Tensor, batch: int, frames: int) -> Tensor:
    if mask.dtype != torch.bool or tuple(mask.shape) != (batch, frames):
        raise ValueError(f"mask must be boolean ({batch}, {frames}), got {mask.dtype} {tuple(mask.shape)}")
    if not bool(mask.any(1).all()):
        raise ValueError("every clip needs at least one real frame")
    return mask
