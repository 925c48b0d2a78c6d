"""The value of one term: which values it reads, through which projectors, and how its loss is called on them.

Outputs arrive as rows, one per event. Errors that a difference in shape explains are given in terms of taps and
projectors; all others are passed on as they are, with the name of the term.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from policykd.errors import ConfigError, ShapeError
from policykd.kd.losses import KDLoss
from policykd.kd.objective.loss_call import LossCall
from policykd.kd.objective.outputs import Outputs
from policykd.kd.objective.projectors import ProjectorError
from policykd.kd.objective.rows import BatchRows, Rows
from policykd.kd.objective.signals import Signals, shape_text
from policykd.kd.objective.terms import Term

_SHAPE_WORDS = re.compile(r"size|shape|dimension|channels|must match|broadcast", re.IGNORECASE)


def term_value(
    name: str,
    term: Term,
    call: LossCall,
    student: Signals,
    teachers: Mapping[str, Signals],
    batch: BatchRows,
    index: Tensor | None,
) -> Tensor:
    """Return the unweighted value of one term, a scalar with its graph; 0 where no event is left.

    Raises:
        ValueError: Labels, indices or a fitting feature are missing, or the loss gave no scalar.
    """
    whole = bool(term.student_taps) and not term.by_event
    rows = batch.every if whole else batch.labeled if call.uses_labels else batch.existing
    _check_given(name, term, call, rows.targets, index)
    if whole and call.requires_labels and batch.outputs.has_events:
        raise ConfigError(
            f"term {name!r} ({type(term.loss).__name__}) needs one label per sample, but outputs "
            f"{batch.outputs.layout} have one per event: use a loss on logits, or Term(...).per_event() for features "
            "of every event"
        )
    if not rows.count:
        return student.logits.sum() * 0.0
    levels = getattr(term.loss, "signal", None) == "levels"
    own = _read(f"term {name!r}, student", term, 0, student, rows, rows.student, levels, batch.outputs)
    weights = batch.sample_weights if whole else rows.weights
    values: list[Any] = [None]
    if call.uses_teacher:
        heard = teachers if term.teacher is None else {term.teacher: teachers[term.teacher]}
        who = f"term {name!r}, teacher"
        read = [
            _read(who, term, 1, signals, rows, rows.teachers[source], levels, batch.outputs)
            for source, signals in heard.items()
        ]
        values = _combine(name, term, read, batch.outputs.kind)
    found = [
        _scalar(name, _call_checked(name, term, call, own, value, rows.targets, index, weights)) for value in values
    ]
    return found[0] if len(found) == 1 else torch.stack(found).mean()


def _check_given(name: str, term: Term, call: LossCall, targets: Tensor | None, index: Tensor | None) -> None:
    who = f"term {name!r} ({type(term.loss).__name__})"
    if call.requires_labels and targets is None:
        raise ValueError(f"{who} needs labels: call objective(student, teacher, x, targets)")
    if call.index in call.required and index is None:
        raise ValueError(f"{who} needs sample indices: call objective(..., index=indices)")


def _read(
    who: str, term: Term, side: int, signals: Signals, rows: Rows, logits: Tensor, levels: bool, outputs: Outputs
) -> Any:
    taps = (term.student_taps, term.teacher_taps)[side]
    projectors = (term.student_projs, term.teacher_projs)[side]
    if not taps:
        return logits
    features = [signals.features[tap] for tap in taps]
    if term.by_event:
        features = [
            rows.feature(feature, outputs, f"{who}: {tap!r}") for tap, feature in zip(taps, features, strict=True)
        ]
    try:
        if projectors:
            pairs = zip(projectors, features, strict=True)
            features = [projector(feature) for projector, feature in pairs]
    except ProjectorError as error:
        raise ProjectorError(f"{who}: {error}") from None
    return features[0] if len(features) == 1 and not levels else features


def _combine(name: str, term: Term, read: list[Any], kind: str) -> list[Any]:
    if term.combine == "mean" or (len(read) == 1 and term.combine == "ensemble"):
        return read
    if term.combine == "stack":
        parts = list(zip(*read, strict=True)) if isinstance(read[0], list) else None
        return [[torch.stack(part) for part in parts]] if parts else [torch.stack(read)]
    if term.student_taps:
        raise ValueError(f"term {name!r}: only logits have an ensemble; use combine='mean' or 'stack' for features")
    if kind == "regression":
        return [torch.stack(read).mean(0)]
    if kind == "multi_label":
        return [torch.stack([logits.sigmoid() for logits in read]).mean(0).logit(eps=1e-7)]
    return [torch.stack([logits.log_softmax(1) for logits in read]).logsumexp(0) - math.log(len(read))]


def _call_checked(
    name: str,
    term: Term,
    call: LossCall,
    own: Any,
    other: Any,
    targets: Tensor | None,
    index: Tensor | None,
    weights: Tensor | None,
) -> Tensor:
    """Call the loss; where the shapes of the two sides are to blame for an error, say both and the fix."""
    clash = _clash(own, other) if call.uses_teacher and term.combine != "stack" else None
    # torch's losses only warn where shapes differ, others may broadcast silently; the library's own check them
    torchs = type(term.loss).__module__ == "torch.nn.modules.loss"
    if clash and not isinstance(term.loss, KDLoss) and (torchs or _would_broadcast(*clash[:2])):
        raise ShapeError(_mismatch(name, term, *clash))
    try:
        if weights is None:
            return call(term.loss, own, other, targets, index)
        return _weighted(name, term, call, own, other, targets, index, weights)
    except (ValueError, RuntimeError, IndexError) as error:
        if clash is not None and _blames_shapes(error, term.loss):
            raise ShapeError(f"{_mismatch(name, term, *clash)} (the loss said: {error})") from error
        error.add_note(f"in term {name!r} ({type(term.loss).__name__})")
        raise


def _blames_shapes(error: Exception, loss: nn.Module) -> bool:
    if isinstance(error, ShapeError):
        return True
    if isinstance(error, IndexError) or (isinstance(loss, KDLoss) and not isinstance(error, RuntimeError)):
        return False
    return _SHAPE_WORDS.search(str(error)) is not None


def _weighted(
    name: str,
    term: Term,
    call: LossCall,
    own: Any,
    other: Any,
    targets: Tensor | None,
    index: Tensor | None,
    weights: Tensor,
) -> Tensor:
    """Call the loss without its reduction and take the weighted one: the mean is ``sum w v / sum w``."""
    loss, kind = term.loss, getattr(term.loss, "reduction", None)
    if kind not in ("mean", "sum", "batchmean"):
        raise ConfigError(
            f"term {name!r}: {type(loss).__name__} gives one number per batch, so its samples cannot be weighted; "
            "weigh them inside the loss, or use one with a reduction"
        )
    loss.reduction = "none"  # type: ignore[assignment]
    try:
        values = call(loss, own, other, targets, index)
    finally:
        loss.reduction = kind
    if values.dim() == 0 or len(values) != len(weights):
        raise ConfigError(f"term {name!r}: {type(loss).__name__} gives no value per sample, so none can be weighted")
    total = (weights * (values.flatten(1).mean(1) if values.dim() > 1 else values)).sum()
    if kind == "mean":
        return total / weights.sum().clamp_min(torch.finfo(total.dtype).tiny)
    return total / len(weights) if kind == "batchmean" else total


def _clash(own: Any, other: Any) -> tuple[Tensor, Tensor, int] | None:
    pairs = zip(own, other, strict=True) if isinstance(own, list) else [(own, other)]
    return next(((mine, its, place) for place, (mine, its) in enumerate(pairs) if mine.shape != its.shape), None)


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
        if own.dim() == 3:
            kind += ", or TokenLinear() for tokens (B, T, D)"
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
