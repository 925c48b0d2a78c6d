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
from policykd.errors import ShapeError

Features: TypeAlias = Tensor | Sequence[Tensor]
Pool = Literal["avg", "max"]


def check_logits(logits: Tensor, *, least: int = 1) -> None:
    """Raise `ShapeError` unless logits are ``(B, C)`` with at least `least` classes.

    Outputs with more axes are refused, because their class axis is not known: softening over the wrong one would give a
    plausible number.
    """
    if logits.dim() < 2:
        raise ShapeError(f"logits must be (B, C), at least 2 dimensions, got {tuple(logits.shape)}")
    if logits.dim() > 2:
        raise ShapeError(
            f"logits must be (B, C), got {tuple(logits.shape)}: an objective takes outputs with more axes, "
            "Objective(..., outputs=Outputs('BTC')); by hand, bring the class axis last and flatten the others"
        )
    if logits.shape[1] < least:
        raise ShapeError(f"logits need at least {least} classes here, got {tuple(logits.shape)}")


def prepare_logits(student: Tensor, teacher: Tensor, *, least: int = 1) -> tuple[Tensor, Tensor]:
    """Check logits ``(B, C)`` of student and teacher, promote both to one dtype and detach the teacher."""
    student, teacher = prepare_pair(student, teacher, min_dim=2)
    check_logits(student, least=least)
    return student, teacher


def check_soft_labels(target: Tensor) -> None:
    """Raise `ValueError` unless the rows of ``(N, C)`` are class distributions: above 0 and with the sum one.

    The sum may differ by 1e-3, in half precision by 1e-2.
    """
    slack = 1e-2 if target.dtype in (torch.float16, torch.bfloat16) else 1e-3
    total = target.float().sum(-1)
    if not bool((total - 1.0).abs().amax() <= slack) or not bool(target.amin() >= 0):
        raise ValueError(
            f"soft labels {tuple(target.shape)} must be probabilities whose rows sum to 1, got values from "
            f"{float(target.amin()):.4g} and row sums from {float(total.amin()):.4g} to {float(total.amax()):.4g}; for "
            "independent labels use BCE and BinaryKD with Objective(..., outputs=Outputs(kind='multi_label'))"
        )


def prepare_target(logits: Tensor, target: Tensor) -> Tensor:
    """Check class indices ``(B,)`` or class distributions ``(B, C)`` against logits ``(B, C)``.

    Returns:
        int64 indices, or distributions in the dtype of the logits.

    Raises:
        TypeError: labels are neither integers nor floating-point distributions.
        ValueError: wrong shape, a label outside ``[0, C - 1]``, or rows that are not distributions.
    """
    if not (isinstance(target, Tensor) and target.is_floating_point()):
        return check_labels(logits, target)
    _, target = prepare_pair(logits, target, what="class probabilities", min_dim=2)
    check_soft_labels(target)
    return target.to(logits.dtype)


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
        raise ShapeError(
            f"student and teacher features need equal widths here, got {student.shape[1]} and {teacher.shape[1]} "
            "values per sample; a projector can match them"
        )
    return student, teacher


def prepare_maps(
    student: Tensor, teacher: Tensor, *, pool: Pool = "avg", same_channels: bool = False
) -> tuple[Tensor, Tensor]:
    """Check two feature maps ``(B, C, H, W)`` or ``(B, C, L)`` and pool the larger one down to the smaller size.

    Raises:
        TypeError: a map is not a floating-point tensor.
        ShapeError: they are not maps of equal dimensions, or channels differ where they must not.
    """
    student, teacher = prepare_pair(student, teacher, what="feature maps", min_dim=2, same_shape=False)
    given = f"got student {tuple(student.shape)} and teacher {tuple(teacher.shape)}"
    if student.dim() != teacher.dim() or student.dim() not in (3, 4):
        raise ShapeError(
            f"feature maps must be (B, C, H, W) or (B, C, L), {given}; for vectors use cc, fitnet, pkt, rkd or sp, for "
            "tokens (B, T, D) put the projector Tokens() before it"
        )
    if same_channels and student.shape[1] != teacher.shape[1]:
        raise ShapeError(f"feature maps need equal channels here, {given}; a connector can match them")
    return match_size(student, teacher, pool)


def match_size(first: Tensor, second: Tensor, pool: Pool = "avg") -> tuple[Tensor, Tensor]:
    """Pool two maps of one or two dimensions adaptively to the smaller size of both, along every axis.

    Raises:
        ShapeError: the maps have different dimensions, or none.
    """
    if first.dim() != second.dim() or first.dim() not in (3, 4):
        given = f"got {tuple(first.shape)} and {tuple(second.shape)}"
        raise ShapeError(f"feature maps must both be (B, C, H, W) or both (B, C, L), {given}")
    size = tuple(min(one, two) for one, two in zip(first.shape[2:], second.shape[2:], strict=True))
    return shrink_map(first, size, pool), shrink_map(second, size, pool)


def shrink_map(maps: Tensor, size: Sequence[int], pool: Pool = "avg") -> Tensor:
    """Pool maps ``(B, C, H, W)`` or ``(B, C, L)`` adaptively to a size, one number per axis."""
    if maps.shape[2:] == tuple(size):
        return maps
    if maps.dim() == 4:
        return (F.adaptive_avg_pool2d if pool == "avg" else F.adaptive_max_pool2d)(maps, tuple(size))  # type: ignore[arg-type]
    return (F.adaptive_avg_pool1d if pool == "avg" else F.adaptive_max_pool1d)(maps, tuple(size))


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
