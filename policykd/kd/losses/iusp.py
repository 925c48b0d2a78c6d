"""Similarity between the time frames inside one clip (IUSP, Chang et al. 2020).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, prepare_pair, reduce_loss
from policykd.kd.losses._base import KDLoss, Signal
from policykd.kd.losses._function import loss_function
from policykd.kd.losses.sp import similarity_matrix


@loss_function
def iusp(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None, reduction: Reduction = "mean") -> Tensor:
    """Keep the teacher's pattern of which frames of a clip look alike.

    ``1 / t**2 || G_s - G_t ||_F**2`` per clip, ``G[i, :] = (A A')[i, :] / || (A A')[i, :] ||_2`` over the frames of the
    clip: the loss ``sp`` of every clip as if its frames were a batch. Chang, Kao, Sun, Wang, Interspeech 2020, arXiv
    2009.01759; the full text was not available: the similarity is that of the abstract, its normalization that of
    ``sp``, on which the paper builds.

    Departures: the mean over clips, average-pooling of the longer of two frame sequences, and masks are choices made
    here. Frames without activation have zero rows.

    Args:
        student: Frame-level activations ``(B, T, ...)``, time second (see :func:`frames_first`); flattened per frame.
        teacher: The same for the teacher ``(B, T', ...)``, detached here.
        mask: Which frames are real ``(B, T)``, boolean; padded ones leave rows, columns and t. Needs ``T == T'``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes do not fit, a clip has no real frame, a value is not finite, or the reduction is unknown.

    Example:
        >>> import torch
        >>> student = torch.tensor([[[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
        >>> teacher = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
        >>> iusp(student, teacher)
        tensor(0.2398)
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


class IUSP(KDLoss):
    """Similarity between the frames of a clip, without a mask; equation and errors: :func:`iusp`.

    Args:
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "iusp"
    signal: ClassVar[Signal] = "features"

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of frame-level activations ``(B, T, ...)``."""
        return iusp(student, teacher, reduction=self.reduction)


def frames_first(maps: Tensor) -> Tensor:
    """Bring convolutional maps ``(B, C, T, F)`` (time before frequency) into frames ``(B, T, C F)``."""
    if maps.dim() != 4:
        raise ValueError(f"maps must be (B, C, T, F), got {tuple(maps.shape)}")
    return maps.transpose(1, 2).flatten(2)


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
