"""Terms: one loss with a weight, the taps that feed it and the projectors between them.

A term is a frozen record, built up by reading::

    0.9 * KD(temperature=4.0)                              # logits
    Ramp(0, 3000, steps=5) * SP().on("layer3")             # a feature, its weight follows a schedule
    FitNet().on("layer2", student_proj=Conv1x1())          # a projector, widths inferred
    0.5 * Term(nn.SmoothL1Loss()).against("teacher")       # any other module is wrapped first
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from policykd.errors import ConfigError
from policykd.kd.objective.loss_call import Against, LossCall
from policykd.kd.objective.projectors import Projector
from policykd.kd.objective.taps import TapError, TapPoint
from policykd.schedules import Schedule

Combine = Literal["mean", "ensemble", "stack"]
TapNames = str | Sequence[str]


@dataclass(frozen=True, eq=False)
class Term:
    """A weighted loss inside an objective.

    Attributes:
        loss: A module called as ``loss(student, teacher, ...)`` that returns a scalar.
        weight: A number, or a schedule of the position that the objective is called with.
        student_taps: Taps of the student features; empty for a loss on logits.
        teacher_taps: Taps of the teacher features, one per student tap.
        student_projs: Projectors of the student features, one per tap or none.
        teacher_projs: Projectors of the teacher features, one per tap or none.
        teacher: Name of the teacher that this term listens to; None is all of them.
        combine: What several teachers mean: ``"mean"`` of the losses, ``"ensemble"`` (one teacher whose probabilities
            are their average), or ``"stack"`` (the loss gets logits ``(K, B, C)``, or features stacked the same way).
        compared: What a loss of two values compares the student with; None for the teacher.
        by_event: Whether features are cut into rows, one per event of the outputs, before the loss sees them.
    """

    loss: nn.Module
    weight: float | Schedule = 1.0
    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()
    student_projs: tuple[Projector, ...] = ()
    teacher_projs: tuple[Projector, ...] = ()
    teacher: str | None = None
    combine: Combine = "mean"
    compared: Against | None = None
    by_event: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.loss, nn.Module):
            raise TypeError(f"a term needs a loss module, got {type(self.loss).__name__}: see FunctionLoss")
        if not (isinstance(self.weight, int | float) or callable(self.weight)):
            raise TypeError(f"a weight is a number or a schedule, got {type(self.weight).__name__}")
        if self.combine not in ("mean", "ensemble", "stack"):
            raise ConfigError(f"combine is 'mean', 'ensemble' or 'stack', not {self.combine!r}")
        LossCall.of(self.loss, self.compared)  # a loss that cannot be called fails here, not in the first step

    @property
    def call(self) -> LossCall:
        """What the loss receives."""
        return LossCall.of(self.loss, self.compared)

    def __mul__(self, weight: float | Schedule) -> Term:
        """A copy with this weight (numbers multiply, a schedule replaces a weight of one)."""
        if isinstance(weight, int | float) and isinstance(self.weight, int | float):
            return replace(self, weight=float(weight) * self.weight)
        if self.weight != 1.0:
            raise TypeError("a term has one weight: multiply it by one number or one schedule")
        return replace(self, weight=weight)

    __rmul__ = __mul__

    def on(
        self,
        student: TapNames,
        teacher: TapNames | None = None,
        *,
        student_proj: Projector | Sequence[Projector] | None = None,
        teacher_proj: Projector | Sequence[Projector] | None = None,
    ) -> Term:
        """A copy that reads features.

        Args:
            student: Tap of the student, or several for a loss that takes a list of features.
            teacher: Tap of the teacher; the same as the student's when None.
            student_proj: Projector of the student feature (one per tap if there are several).
            teacher_proj: Projector of the teacher feature.

        Raises:
            ConfigError: The numbers of taps and projectors do not match.
            TapError: A tap cannot be read.
        """
        student_taps = _names(student)
        teacher_taps = student_taps if teacher is None else _names(teacher)
        if len(student_taps) != len(teacher_taps):
            raise ConfigError(
                f"{len(student_taps)} student tap(s) {student_taps} but {len(teacher_taps)} of the teacher"
            )
        for tap in (*student_taps, *teacher_taps):
            TapPoint.parse(tap)
        return replace(
            self,
            student_taps=student_taps,
            teacher_taps=teacher_taps,
            student_projs=_projectors(student_proj, student_taps, "student"),
            teacher_projs=_projectors(teacher_proj, teacher_taps, "teacher"),
        )

    def of(self, teacher: str) -> Term:
        """A copy that listens to one of several teachers."""
        return replace(self, teacher=teacher)

    def combined(self, combine: Combine) -> Term:
        """A copy that treats several teachers this way (see ``combine``)."""
        return replace(self, combine=combine)

    def against(self, what: Against) -> Term:
        """A copy whose loss of two values compares the student with the labels, or with the teacher.

        Raises:
            ConfigError: The loss does not take them.
        """
        return replace(self, compared=what)

    def per_event(self) -> Term:
        """A copy whose features ``(B, T, D)``, axes as the outputs', become rows ``(N, D)``, one per unmasked event.

        So a loss on vectors, with a projector such as ``Linear``, treats every token or pixel as a sample.

        Raises:
            ConfigError: The term reads no features.
        """
        if not self.student_taps:
            raise ConfigError("only a term on features is read by event, e.g. FitNet().on('encoder').per_event()")
        return replace(self, by_event=True)

    def check(self, name: str) -> None:
        """Check that a loss on features has taps, and that it is known what the student is compared with.

        Raises:
            TapError: It has no taps.
            ConfigError: The loss takes ``(input, target)``, and the term does not say whether that is a label.
        """
        if self.call.undecided and not self.student_taps:
            kind = type(self.loss).__name__
            raise ConfigError(
                f"term {name!r}: the target of {kind} may be the labels or the teacher's logits, say which: "
                f'Term({kind}()).against("labels") or .against("teacher")'
            )
        signal = getattr(self.loss, "signal", "logits")
        if signal != "logits" and not self.student_taps:
            example = '.on(["layer2", "layer3"])' if signal == "levels" else '.on("layer3")'
            raise TapError(
                f"term {name!r}: {type(self.loss).__name__} compares {signal}, say where: Term(...){example}"
            )

    def weight_at(self, step: float | None, total: float | None) -> float:
        """The weight at a position of the run.

        Raises:
            ConfigError: The weight is a schedule and no position was given.
        """
        if isinstance(self.weight, int | float):
            return float(self.weight)
        if step is None:
            raise ConfigError(f"the weight {self.weight} is a schedule: call objective(..., step=..., total=...)")
        return float(self.weight(step, total))


def as_term(item: Any) -> Term:
    """A term from a term or a bare loss (weight one)."""
    return item if isinstance(item, Term) else Term(item)


def as_terms(named: Mapping[str, Any]) -> dict[str, Term]:
    """Named terms from named terms or losses.

    Raises:
        ConfigError: There is none.
        TapError: A term on features has no taps.
    """
    if not named:
        raise ConfigError("an objective needs at least one term, e.g. Objective(ce=CE(), kd=0.9 * KD())")
    terms = {name: as_term(item) for name, item in named.items()}
    for name, term in terms.items():
        term.check(name)
    return terms


def _names(taps: TapNames) -> tuple[str, ...]:
    names = (taps,) if isinstance(taps, str) else tuple(taps)
    if not names:
        raise ConfigError("a term on features needs at least one tap")
    return names


def _projectors(
    given: Projector | Sequence[Projector] | None, taps: tuple[str, ...], side: str
) -> tuple[Projector, ...]:
    if given is None:
        return ()
    projectors = (given,) if isinstance(given, Projector) else tuple(given)
    if len(projectors) != len(taps):
        raise ConfigError(f"{len(projectors)} {side} projector(s) for {len(taps)} tap(s) {taps}: give one per tap")
    return projectors
