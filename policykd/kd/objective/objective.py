"""The objective: weighted, named terms bound to a student, its teachers and a batch.

It stands alone in the user's own loop::

    objective = Objective(ce=0.1 * CE(), kd=0.9 * KD(temperature=4.0), sp=SP().on("layer3"))
    out = objective(student, teacher, x, y)
    out.loss.backward()

A call runs in three parts that a trainer may also use one by one: ``student_signals`` and ``teacher_signals`` run the
networks with the taps attached, ``combine`` turns signals into the loss and touches no network.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from policykd.kd.objective.loss_call import LossCall
from policykd.kd.objective.projectors import Projector, ProjectorError
from policykd.kd.objective.signals import Signals, check_finite, check_logits, check_targets, shape_text
from policykd.kd.objective.taps import Taps, unwrap
from policykd.kd.objective.teachers import as_teachers
from policykd.kd.objective.terms import Term, as_terms


@dataclass(frozen=True)
class ObjectiveOutput:
    """What an objective says about a batch.

    Attributes:
        loss: Scalar, with its graph: the sum over terms of weight times value.
        terms: Name -> unweighted value, off the graph.
        weights: Name -> the weight that was applied.
        logits: The student's logits ``(B, C)``.
        student: All signals of the student.
        teachers: Name -> signals of each teacher.
    """

    loss: Tensor
    terms: Mapping[str, Tensor]
    weights: Mapping[str, float]
    logits: Tensor
    student: Signals
    teachers: Mapping[str, Signals]


class Objective(nn.Module):
    """Weighted, named terms.

    Its parameters are those of the losses and projectors: give them to the optimizer along with the student's. Its
    ``state_dict`` holds them and the losses' buffers, and nothing of student or teacher.

    Args:
        terms: Name -> term, or a bare loss of weight one.
        validate: Check every batch (finite values, label range, shapes). Costs a synchronization on an accelerator.
        **named: More terms, by keyword.
    """

    def __init__(
        self,
        terms: Mapping[str, Term | nn.Module] | None = None,
        /,
        *,
        validate: bool = True,
        **named: Term | nn.Module,
    ) -> None:
        super().__init__()
        self.terms: dict[str, Term] = as_terms({**(terms or {}), **named})
        self.validate = validate
        self.losses = nn.ModuleDict({name: term.loss for name, term in self.terms.items()})
        self.student_projectors = nn.ModuleDict(
            {name: nn.ModuleList(term.student_projs) for name, term in self.terms.items() if term.student_projs}
        )
        self.teacher_projectors = nn.ModuleDict(
            {name: nn.ModuleList(term.teacher_projs) for name, term in self.terms.items() if term.teacher_projs}
        )
        self._calls = {name: LossCall.of(term.loss) for name, term in self.terms.items()}
        self._student_taps = Taps(_union(term.student_taps for term in self.terms.values()))

    def forward(
        self,
        student: nn.Module,
        teacher: Any,
        x: Tensor,
        targets: Tensor | None = None,
        *,
        index: Tensor | None = None,
        step: float | None = None,
        total: float | None = None,
    ) -> ObjectiveOutput:
        """Run student and teachers on a batch and add up the terms.

        Args:
            student: Any module ``x -> logits (B, C)``.
            teacher: A module, a callable that gives probabilities, cached outputs, several of them as a sequence or a
                mapping, or None where no term needs one.
            x: Inputs, batch first.
            targets: Labels ``(B,)`` or label distributions ``(B, C)``.
            index: Sample indices ``(B,)``, for cached teachers and for losses with a memory.
            step: Position in the run for scheduled weights, in the unit of the schedules.
            total: Length of the run in the same unit.

        Raises:
            ValueError: The batch, a network's output or a loss value is not usable; the message says what is needed.
        """
        if self.validate:
            check_finite(x, "the input batch")
        # the teacher goes first: its temporary memory is free again when the student's graph is built
        taught = self.teacher_signals(teacher, x, index)
        return self.combine(self.student_signals(student, x), taught, targets, index=index, step=step, total=total)

    def student_signals(self, student: nn.Module, x: Tensor) -> Signals:
        """Run the student with the taps attached; the signals carry its graph."""
        with self._student_taps.attach(student) as seen:
            logits = check_logits(student(x), len(x), f"student {type(unwrap(student)).__name__}")
            return Signals(logits, {name: seen.tensor(name) for name in self._student_taps.points})

    def teacher_signals(self, teacher: Any, x: Tensor, index: Tensor | None = None) -> dict[str, Signals]:
        """Ask every teacher; the signals are off the graph."""
        teachers = as_teachers(teacher)
        self._check_teachers(teachers)
        return {name: source.signals(x, index, self._teacher_taps(name)) for name, source in teachers.items()}

    def combine(
        self,
        student: Signals,
        teachers: Mapping[str, Signals],
        targets: Tensor | None = None,
        *,
        index: Tensor | None = None,
        step: float | None = None,
        total: float | None = None,
    ) -> ObjectiveOutput:
        """Turn signals into the loss, in at least float32 and outside autocast (see ``forward`` for the arguments)."""
        student = student.full_precision()
        teachers = {name: signals.full_precision() for name, signals in teachers.items()}
        if self.validate:
            _check_batch(student, teachers, targets)
        values, weights = {}, {}
        with torch.autocast(student.logits.device.type, enabled=False):
            for name, term in self.terms.items():
                weights[name] = term.weight_at(step, total)
                values[name] = _term_value(name, term, self._calls[name], student, teachers, targets, index)
        loss = cast(Tensor, sum(weights[name] * value for name, value in values.items()))
        if self.validate and not bool(torch.isfinite(loss)):
            listed = ", ".join(f"{name} = {float(value.detach()):.4g}" for name, value in values.items())
            raise FloatingPointError(f"the loss is not finite: {listed}; lower the learning rate or that weight")
        return ObjectiveOutput(
            loss, {name: value.detach() for name, value in values.items()}, weights, student.logits, student, teachers
        )

    @torch.no_grad()
    def build(self, student: nn.Module, teacher: Any, x: Tensor, index: Tensor | None = None) -> Objective:
        """Infer missing widths of projectors and losses from one small batch, before the optimizer is made.

        The student's mode and buffers and the losses' buffers are left as they were.

        Raises:
            ProjectorError: A projector does not fit the features.
        """
        with _in_eval(student):
            own = self.student_signals(student, x)
        taught = self.teacher_signals(teacher, x, index)
        for name, term in self.terms.items():
            sources = [term.teacher] if term.teacher else list(taught)
            for place, (tap, other) in enumerate(zip(term.student_taps, term.teacher_taps, strict=True)):
                mine = tuple(own.features[tap].shape[1:])
                theirs = tuple(taught[sources[0]].features[other].shape[1:]) if sources else mine
                for projectors, shape, target in (
                    (term.student_projs, mine, theirs),
                    (term.teacher_projs, theirs, mine),
                ):
                    if projectors:
                        self._build_one(name, projectors[place], shape, target)
        self.to(x.device)
        if any(isinstance(parameter, UninitializedParameter) for parameter in self.parameters()):
            self._initialize_lazy(own, taught, index)
        return self

    def _initialize_lazy(self, own: Signals, taught: Mapping[str, Signals], index: Tensor | None) -> None:
        """Lazy layers inside losses find their widths in a call, which must not count as one for the losses' memory."""
        targets = own.logits.new_zeros(len(own.logits), dtype=torch.long)
        index = torch.arange(len(targets), device=targets.device) if index is None else index
        kept = {name: buffer.clone() for name, buffer in self.named_buffers()}
        with _in_eval(self):
            self.combine(own, taught, targets, index=index, step=0.0, total=1.0)
        for name, buffer in self.named_buffers():
            buffer.copy_(kept[name])

    @staticmethod
    def _build_one(name: str, projector: Projector, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
        try:
            projector.build(shape, target)
        except ProjectorError as error:
            raise ProjectorError(f"term {name!r}: {error}") from None

    def _teacher_taps(self, teacher: str) -> dict[str, str]:
        taps = _union(term.teacher_taps for term in self.terms.values() if term.teacher in (None, teacher))
        return {tap: tap for tap in taps}

    def _check_teachers(self, teachers: Mapping[str, Any]) -> None:
        for name, term in self.terms.items():
            if term.teacher is not None and term.teacher not in teachers:
                raise ValueError(
                    f"term {name!r} listens to teacher {term.teacher!r}; given: {sorted(teachers) or 'none'}"
                )
            if self._calls[name].pair and not teachers:
                raise ValueError(f"term {name!r} ({type(term.loss).__name__}) needs a teacher, none was given")


def _union(groups: Iterable[tuple[str, ...]]) -> list[str]:
    return list(dict.fromkeys(tap for group in groups for tap in group))


def _check_batch(student: Signals, teachers: Mapping[str, Signals], targets: Tensor | None) -> None:
    batch, classes = student.logits.shape
    if targets is not None:
        check_targets(targets, batch, classes)
    for name, signals in teachers.items():
        if len(signals.logits) != batch:
            raise ValueError(f"teacher {name!r} gives {shape_text(signals.logits)} for a batch of {batch}")
        for part, tensor in (("logits", signals.logits), *signals.features.items()):
            check_finite(tensor, f"teacher {name!r}: {part}")


@contextmanager
def _in_eval(module: nn.Module) -> Iterator[None]:
    modes = {layer: layer.training for layer in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for layer, mode in modes.items():
            layer.training = mode


def _term_value(
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
