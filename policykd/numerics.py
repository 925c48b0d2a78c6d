"""Checks and arithmetic that every divergence and loss shares: full precision, valid tensors, reductions.

Nothing here knows a particular divergence; :mod:`policykd.divergences` exports the same names for its users.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal, ParamSpec, get_args

import torch
from torch import Tensor

from policykd.errors import ConfigError, ShapeError

Reduction = Literal["none", "mean", "sum", "batchmean"]

P = ParamSpec("P")


def full_precision(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Run a loss with autocast off, so that matrix products of promoted inputs are not cast down again."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        first = _first_tensor((*args, *kwargs.values()))
        if first is None or not torch.is_autocast_enabled(first.device.type):
            return function(*args, **kwargs)
        with torch.autocast(first.device.type, enabled=False):
            return function(*args, **kwargs)

    return wrapped


def _first_tensor(values: tuple[object, ...]) -> Tensor | None:
    for value in values:
        if isinstance(value, Tensor):
            return value
        if isinstance(value, list | tuple) and (inner := _first_tensor(tuple(value))) is not None:
            return inner
    return None


def check_temperature(temperature: float) -> float:
    """Return the temperature, or raise ConfigError unless it is finite and above 0."""
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ConfigError(f"temperature must be finite and above 0, got {temperature!r}")
    return temperature


def prepare_tensor(name: str, value: Tensor, *, min_dim: int = 1, check: bool = True) -> Tensor:
    """Check one floating-point input and promote it to float32 or better.

    Args:
        name: Name of the input in the error message.
        value: Any floating-point tensor with at least `min_dim` dimensions and one element.
        min_dim: Smallest number of dimensions accepted.
        check: Look for values that are not finite, for which the host waits for a device.

    Raises:
        TypeError: if the input is not a floating-point tensor.
        ValueError: if it has too few dimensions, no elements, or a value that is not finite.
    """
    value = _promote(name, value, min_dim)
    if check:
        _check_finite((name,), (value,))
    return value


def _promote(name: str, value: Tensor, min_dim: int) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        given = f"a {value.dtype} tensor" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise TypeError(f"{name} must be a floating-point tensor, got {given}")
    if value.dim() < min_dim or value.numel() == 0:
        raise ValueError(f"{name} must have at least {min_dim} dimensions and one element, got {tuple(value.shape)}")
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def _check_finite(names: tuple[str, ...], values: tuple[Tensor, ...]) -> None:
    # Only one number is read back. The sum is finite unless an element is not, or the sum overflows; the loop below
    # tells these apart.
    if torch.compiler.is_compiling():
        return
    sums = [value.detach().sum() for value in values]
    if math.isfinite((sums[0] if len(sums) == 1 else sums[0] + sums[1]).item()):
        return
    for name, value in zip(names, values, strict=True):
        bad = ~torch.isfinite(value)
        if (count := int(bad.sum().item())) > 0:
            place = tuple(bad.nonzero()[0].tolist())
            raise ValueError(
                f"{name} must be finite, got {count} non-finite of {value.numel()} values, first at {place}"
            )


def prepare_pair(
    student: Tensor,
    teacher: Tensor,
    *,
    what: str = "logits",
    min_dim: int = 1,
    same_shape: bool = True,
    check: bool = True,
) -> tuple[Tensor, Tensor]:
    """Check a student and a teacher tensor, promote both to one dtype and detach the teacher.

    Args:
        student: Student tensor, batch first.
        teacher: Teacher tensor of the same batch.
        what: Noun for the error message, such as ``"logits"``.
        min_dim: Smallest number of dimensions accepted.
        same_shape: Require equal shapes; otherwise only an equal first dimension.
        check: Look for values that are not finite, for which the host waits for a device.

    Raises:
        TypeError: if an input is not a floating-point tensor.
        ValueError: if shapes or devices differ, or an input is empty or has a value that is not finite.
    """
    names = (f"student {what}", f"teacher {what}")
    student, teacher = _promote(names[0], student, min_dim), _promote(names[1], teacher, min_dim).detach()
    given = f"got student {tuple(student.shape)} and teacher {tuple(teacher.shape)}"
    if same_shape and student.shape != teacher.shape:
        raise ShapeError(f"student and teacher {what} need the same shape, {given}; a projector can match widths")
    if student.dim() and student.shape[0] != teacher.shape[0]:
        raise ShapeError(f"student and teacher {what} need the same batch size, {given}")
    if student.device != teacher.device:
        devices = f"student {what} are on {student.device}, teacher {what} on {teacher.device}"
        raise ValueError(f"{devices}; move both to one device")
    if check:
        _check_finite(names, (student, teacher))
    common = torch.promote_types(student.dtype, teacher.dtype)
    return student.to(common), teacher.to(common)


def reduce_loss(values: Tensor, reduction: Reduction) -> Tensor:
    """Reduce per-sample values: `none`, `mean`, `sum`, or `batchmean` (the sum divided by the first dimension's size).

    Raises:
        ConfigError: for an unknown reduction.
    """
    if reduction == "none":
        return values
    if reduction == "mean":
        return values.mean()
    if reduction == "sum":
        return values.sum()
    if reduction == "batchmean":
        return values.sum() / values.shape[0] if values.dim() else values
    raise ConfigError(f"reduction must be one of {', '.join(get_args(Reduction))}, got {reduction!r}")
