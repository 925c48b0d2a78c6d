"""Binding: from the signals of student and teachers to the value of one term."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from policykd.kd.objective.loss_call import LossCall
from policykd.kd.objective.projectors import Projector, ProjectorError
from policykd.kd.objective.signals import Signals, shape_text
from policykd.kd.objective.terms import Term


def term_value(
    name: str,
    term: Term,
    call: LossCall,
    student: Signals,
    teachers: Mapping[str, Signals],
    targets: Tensor | None,
    index: Tensor | None,
) -> Tensor:
    """The unweighted value of one term, a scalar with its graph.

    Raises:
        ValueError: Labels, indices or a fitting feature are missing, or the loss gave no scalar.
    """
    _check_given(name, term, call, targets, index)
    levels = getattr(term.loss, "signal", None) == "levels"
    mine = _read(f"term {name!r}, student", term.student_taps, term.student_projs, student, levels)
    if not call.pair:
        return _scalar(name, call(term.loss, mine, None, targets, index))
    heard = teachers if term.teacher is None else {term.teacher: teachers[term.teacher]}
    who = f"term {name!r}, teacher"
    theirs = [_read(who, term.teacher_taps, term.teacher_projs, item, levels) for item in heard.values()]
    values = [
        _scalar(name, _call_checked(name, term, call, mine, value, targets, index))
        for value in _combine(name, term, theirs)
    ]
    return values[0] if len(values) == 1 else torch.stack(values).mean()


def _check_given(name: str, term: Term, call: LossCall, targets: Tensor | None, index: Tensor | None) -> None:
    who = f"term {name!r} ({type(term.loss).__name__})"
    if call.target in call.required and targets is None:
        raise ValueError(f"{who} needs labels: call objective(student, teacher, x, targets)")
    if call.index in call.required and index is None:
        raise ValueError(f"{who} needs sample indices: call objective(..., index=indices)")


def _read(who: str, taps: tuple[str, ...], projectors: tuple[Projector, ...], signals: Signals, levels: bool) -> Any:
    if not taps:
        return signals.logits
    features = [signals.features[tap] for tap in taps]
    try:
        if projectors:
            features = [projector(feature) for projector, feature in zip(projectors, features, strict=True)]
    except ProjectorError as error:
        raise ProjectorError(f"{who}: {error}") from None
    return features[0] if len(features) == 1 and not levels else features


def _combine(name: str, term: Term, theirs: list[Any]) -> list[Any]:
    if term.combine == "mean" or (len(theirs) == 1 and term.combine == "ensemble"):
        return theirs
    if term.combine == "stack":
        parts = list(zip(*theirs, strict=True)) if isinstance(theirs[0], list) else None
        return [[torch.stack(part) for part in parts]] if parts else [torch.stack(theirs)]
    if term.student_taps:
        raise ValueError(f"term {name!r}: only logits have an ensemble; use combine='mean' or 'stack' for features")
    return [torch.stack([logits.log_softmax(1) for logits in theirs]).logsumexp(0) - math.log(len(theirs))]


def _call_checked(
    name: str, term: Term, call: LossCall, mine: Any, theirs: Any, targets: Tensor | None, index: Tensor | None
) -> Tensor:
    """Call the loss; where the two sides differ in shape, say both shapes and the fix instead of a torch message."""
    clash = None if term.combine == "stack" else _clash(term, mine, theirs)
    # the library's own losses (they have a signal) check shapes; torch's only warn, others may broadcast silently
    torchs = type(term.loss).__module__ == "torch.nn.modules.loss"
    if clash and not hasattr(term.loss, "signal") and (torchs or _would_broadcast(*clash[:2])):
        raise ValueError(_mismatch(name, term, *clash))
    try:
        return call(term.loss, mine, theirs, targets, index)
    except (ValueError, RuntimeError) as error:
        if clash is None:
            raise
        raise ValueError(f"{_mismatch(name, term, *clash)} (the loss said: {error})") from error


def _clash(term: Term, mine: Any, theirs: Any) -> tuple[Tensor, Tensor, int] | None:
    pairs = zip(mine, theirs, strict=True) if isinstance(mine, list) else [(mine, theirs)]
    return next(((own, other, place) for place, (own, other) in enumerate(pairs) if own.shape != other.shape), None)


def _would_broadcast(own: Tensor, other: Tensor) -> bool:
    try:
        torch.broadcast_shapes(own.shape, other.shape)
    except RuntimeError:
        return False
    return True


def _mismatch(name: str, term: Term, own: Tensor, other: Tensor, place: int) -> str:
    if not term.student_taps:
        what, fix = ("logits", "logits"), "both need the same number of classes"
    else:
        what = (f"{term.student_taps[place]!r}", f"{term.teacher_taps[place]!r}")
        kind = "Linear()" if own.dim() == 2 else "Conv1x1()"
        if own.shape[2:] != other.shape[2:]:
            kind = "Chain(Pool(1), Linear())" if other.dim() == 2 else "Chain(Pool(), Conv1x1())"
        fix = f"add a projector, e.g. .on(..., student_proj={kind}), and call objective.build(...) before the optimizer"
    return (
        f"term {name!r} ({type(term.loss).__name__}): student {what[0]} gives {shape_text(own)}, "
        f"teacher {what[1]} gives {shape_text(other)}: {fix}"
    )


def _scalar(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = shape_text(value) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"term {name!r}: the loss must give one number, it gave {got}; use reduction='mean'")
    return value.reshape(())
