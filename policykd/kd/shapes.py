"""Checks of tensors and shape changes that several losses share; their errors name the shapes that were given.

They may use ``policykd.divergences`` and know no loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import prepare_pair

Features: TypeAlias = Tensor | Sequence[Tensor]
Pool = Literal["avg", "max"]


def check_logits(logits: Tensor) -> None:
    """Raise `ValueError` unless logits have a batch dimension."""
    if logits.dim() < 2:
        raise ValueError(f"logits must be (B, C), at least 2 dimensions, got {tuple(logits.shape)}")


def check_labels(logits: Tensor, target: Tensor) -> Tensor:
    """Check class indices ``(B,)`` against logits ``(B, C, ...)`` and return them as int64.

    Raises:
        TypeError: labels are not integers.
        ValueError: wrong shape, or a label outside ``[0, C - 1]``.
    """
    if not isinstance(target, Tensor) or target.is_floating_point() or target.dtype == torch.bool:
        given = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(f"labels must be an integer tensor (B,), got {given}")
    batch, classes = logits.shape[:2]
    if tuple(target.shape) != (batch,):
        raise ValueError(f"labels must have shape ({batch},) for a batch of {batch}, got {tuple(target.shape)}")
    low, high = (int(x) for x in torch.aminmax(target))
    if low < 0 or high >= classes:
        raise ValueError(f"labels must be in [0, {classes - 1}] for {classes} classes, got values from {low} to {high}")
    return target.long()


def prepare_embeddings(student: Tensor, teacher: Tensor, *, same_width: bool = False) -> tuple[Tensor, Tensor]:
    """Check two features of one batch, any trailing shape, and flatten them to ``(B, D)``."""
    student, teacher = prepare_pair(student, teacher, what="features", min_dim=2, same_shape=False)
    student, teacher = student.flatten(1), teacher.flatten(1)
    if same_width and student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher features need equal widths here, got {student.shape[1]} and {teacher.shape[1]} "
            "values per sample; a projector can match them"
        )
    return student, teacher


def prepare_maps(
    student: Tensor, teacher: Tensor, *, pool: Pool = "avg", same_channels: bool = False
) -> tuple[Tensor, Tensor]:
    """Check two feature maps ``(B, C, H, W)`` and pool the larger one down to the smaller one's height and width."""
    student, teacher = prepare_pair(student, teacher, what="feature maps", min_dim=2, same_shape=False)
    given = f"got student {tuple(student.shape)} and teacher {tuple(teacher.shape)}"
    if student.dim() != 4 or teacher.dim() != 4:
        raise ValueError(f"feature maps must be (B, C, H, W), {given}")
    if same_channels and student.shape[1] != teacher.shape[1]:
        raise ValueError(f"feature maps need equal channels here, {given}; a connector can match them")
    return match_size(student, teacher, pool)


def match_size(first: Tensor, second: Tensor, pool: Pool = "avg") -> tuple[Tensor, Tensor]:
    """Pool two maps adaptively to the smaller height and the smaller width of both."""
    size = (min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3]))
    shrink = F.adaptive_avg_pool2d if pool == "avg" else F.adaptive_max_pool2d
    return tuple(x if x.shape[2:] == size else shrink(x, size) for x in (first, second))  # type: ignore[return-value]


def as_levels(student: Features, teacher: Features, *, at_least: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Pair the levels of a student and a teacher; one tensor counts as one level.

    Raises:
        ValueError: different numbers of levels, or fewer than `at_least`.
    """
    students = [student] if isinstance(student, Tensor) else list(student)
    teachers = [teacher] if isinstance(teacher, Tensor) else list(teacher)
    if len(students) != len(teachers) or len(students) < at_least:
        raise ValueError(
            f"need the same number of student and teacher levels, at least {at_least}, "
            f"got {len(students)} and {len(teachers)}"
        )
    return list(zip(students, teachers, strict=True))
