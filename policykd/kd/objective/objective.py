"""The objective: weighted, named terms bound to a student, its teachers and a batch.

It stands alone in the user's own loop::

    objective = Objective(ce=0.1 * CE(), kd=0.9 * KD(temperature=4.0), sp=SP().on("layer3"))
    out = objective(student, teacher, x, y)
    out.loss.backward()

A call runs in three parts that a trainer may also use one by one: ``student_signals`` and ``teacher_signals`` run the
networks with the taps attached, ``combine`` turns signals into the loss and touches no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from policykd.errors import ShapeError
from policykd.kd.objective.compatibility import check_terms, takes_distributions
from policykd.kd.objective.inputs import Inputs, call_network, check_inputs, count_samples
from policykd.kd.objective.outputs import Outputs
from policykd.kd.objective.projectors import Projector, ProjectorError
from policykd.kd.objective.rows import batch_rows
from policykd.kd.objective.signals import Signals, check_finite, shape_text
from policykd.kd.objective.taps import Taps, unwrap
from policykd.kd.objective.teachers import as_teachers, check_stored
from policykd.kd.objective.term_value import term_value
from policykd.kd.objective.terms import Term, as_terms
from policykd.kd.objective.token_axes import check_map_readers, map_readers


@dataclass(frozen=True)
class ObjectiveOutput:
    """What an objective says about a batch.

    Attributes:
        loss: Scalar, with its graph: the sum over terms of weight times value.
        terms: Name -> unweighted value, off the graph.
        weights: Name -> the weight that was applied.
        logits: The student's outputs, ``(B, C)`` or in the objective's layout.
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
        validate: Check every batch (finite values, label range). Costs a synchronization on an accelerator.
        outputs: What the networks' outputs are; by default class logits ``(B, C)`` of one label per sample.
        **named: More terms, by keyword.

    Raises:
        ConfigError: A loss has no meaning for such outputs; the message names those that have.
        TapError: A term on features has no taps.
    """

    def __init__(
        self,
        terms: Mapping[str, Term | nn.Module] | None = None,
        /,
        *,
        validate: bool = True,
        outputs: Outputs = Outputs(),
        **named: Term | nn.Module,
    ) -> None:
        super().__init__()
        self.terms: dict[str, Term] = as_terms({**(terms or {}), **named})
        self.validate, self.outputs = validate, outputs
        check_terms(self.terms, outputs)
        self.losses = nn.ModuleDict({name: term.loss for name, term in self.terms.items()})
        self.student_projectors = nn.ModuleDict(
            {name: nn.ModuleList(term.student_projs) for name, term in self.terms.items() if term.student_projs}
        )
        self.teacher_projectors = nn.ModuleDict(
            {name: nn.ModuleList(term.teacher_projs) for name, term in self.terms.items() if term.teacher_projs}
        )
        self._calls = {name: term.call for name, term in self.terms.items()}
        # the library's losses check soft labels themselves, a user's function defines them, torch's losses do neither
        self._needs_distributions = any(takes_distributions(term.loss) for term in self.terms.values())
        # events without a label are left out of terms that read none, too
        self._uses_labels = outputs.ignore_index is not None or any(c.uses_labels for c in self._calls.values())
        self._map_readers = map_readers(self.terms)
        self._student_taps = Taps(_union(term.student_taps for term in self.terms.values()))

    @property
    def needs_teacher(self) -> bool:
        """Whether a term compares the student with a teacher."""
        return any(call.uses_teacher for call in self._calls.values())

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """Taps of all features that the terms read of teachers."""
        return tuple(_union(term.teacher_taps for term in self.terms.values()))

    def forward(
        self,
        student: nn.Module,
        teacher: Any,
        x: Inputs,
        targets: Tensor | None = None,
        *,
        index: Tensor | None = None,
        mask: Tensor | None = None,
        weights: Tensor | None = None,
        step: float | None = None,
        total: float | None = None,
    ) -> ObjectiveOutput:
        """Run student and teachers on a batch and add up the terms.

        Args:
            student: Any module whose output the objective's ``outputs`` can read.
            teacher: A module, a callable that gives probabilities, cached outputs, several of them as a sequence or a
                mapping, or None where no term needs one.
            x: Inputs, batch first: a tensor, a sequence (positional arguments) or a mapping (keyword arguments).
            targets: Labels, for class logits ``(B,)`` or as distributions ``(B, C)``; in general see
                :meth:`policykd.kd.objective.outputs.Outputs.target_rows`.
            index: Sample indices ``(B,)``, for cached teachers and for losses with a memory.
            mask: Which events exist: the shape of the outputs without classes; terms on outputs leave out the others.
            weights: Weights of the samples ``(B,)``; the mean of a term is then ``sum w v / sum w``.
            step: Position in the run for scheduled weights, in the unit of the schedules.
            total: Length of the run in the same unit.

        Raises:
            ValueError: The batch, a network's output or a loss value is not usable; the message says what is needed.
        """
        if self.validate:
            check_inputs(x)
        # the teacher goes first: its temporary memory is free again when the student's graph is built
        taught = self.teacher_signals(teacher, x, index)
        own = self.student_signals(student, x)
        options: dict[str, Any] = {"index": index, "mask": mask, "weights": weights, "step": step, "total": total}
        return self.combine(own, taught, targets, **options)

    def student_signals(self, student: nn.Module, x: Inputs) -> Signals:
        """Run the student with the taps attached; the signals carry its graph."""
        with self._student_taps.attach(student) as seen:
            output, name = call_network(student, x), type(unwrap(student)).__name__
            logits = self.outputs.student_tensor(output, count_samples(x), f"student {name}")
            found = Signals(logits, {name: seen.tensor(name) for name in self._student_taps.points})
        check_map_readers(self._map_readers[0], student, found.features, logits, self.outputs)
        return found

    def teacher_signals(self, teacher: Any, x: Inputs, index: Tensor | None = None) -> dict[str, Signals]:
        """Ask every teacher; the signals are off the graph."""
        teachers = as_teachers(teacher, self.outputs)
        self._check_teachers(teachers)
        found = {name: source.signals(x, index, self._teacher_taps(name)) for name, source in teachers.items()}
        for name, signals in found.items():
            self.outputs.checked(signals.logits, count_samples(x), f"teacher {name!r}")
            heard = [reader for reader in self._map_readers[1] if self.terms[reader.term].teacher in (None, name)]
            network = getattr(teachers[name], "module", None)
            check_map_readers(heard, network, signals.features, signals.logits, self.outputs)
        return found

    def combine(
        self,
        student: Signals,
        teachers: Mapping[str, Signals],
        targets: Tensor | None = None,
        *,
        index: Tensor | None = None,
        mask: Tensor | None = None,
        weights: Tensor | None = None,
        step: float | None = None,
        total: float | None = None,
    ) -> ObjectiveOutput:
        """Turn signals into the loss, in at least float32 and outside autocast (see ``forward`` for the arguments)."""
        student = student.full_precision()
        teachers = {name: signals.full_precision() for name, signals in teachers.items()}
        if self.validate:
            _check_teachers_batch(teachers, len(student.logits))
        values, shares = {}, {}
        with torch.autocast(student.logits.device.type, enabled=False):
            rows = batch_rows(
                self.outputs,
                student,
                teachers,
                targets if self._uses_labels else None,  # labels that no term reads may be of any kind
                mask=mask,
                weights=weights,
                validate=self.validate,
                distributions=self._needs_distributions,
            )
            for name, term in self.terms.items():
                shares[name] = term.weight_at(step, total)
                values[name] = term_value(name, term, self._calls[name], student, teachers, rows, index)
        loss = cast(Tensor, sum(shares[name] * value for name, value in values.items()))
        if self.validate and not bool(torch.isfinite(loss)):
            listed = ", ".join(f"{name} = {float(value.detach()):.4g}" for name, value in values.items())
            raise FloatingPointError(f"the loss is not finite: {listed}; lower the learning rate or that weight")
        return ObjectiveOutput(
            loss, {name: value.detach() for name, value in values.items()}, shares, student.logits, student, teachers
        )

    def bind(self, student: nn.Module, teacher: Any, epochs: int) -> Callable[[Any, int], Tensor]:
        """Return the objective as ``loss(batch, epoch)`` for a loop such as ``policykd.kd.training.loop.minimize``.

        Args:
            student: The student.
            teacher: As in ``forward``.
            epochs: Length of the run; scheduled weights move from epoch to epoch.
        """

        def loss(batch: Any, epoch: int) -> Tensor:
            check_stored(teacher, batch.augmented, batch.variants)
            if self.validate:
                check_inputs(batch.x)
            taught = self.teacher_signals(teacher, batch.x, batch.teacher_index)
            own = self.student_signals(student, batch.x)
            extra = {"index": batch.index, "mask": batch.mask, "weights": batch.weights}
            return self.combine(own, taught, batch.targets, **extra, step=float(epoch), total=float(epochs)).loss

        return loss

    @torch.no_grad()
    def build(self, student: nn.Module, teacher: Any, x: Inputs, index: Tensor | None = None) -> Objective:
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
                mine = self._feature_shape(term, own.features[tap])
                theirs = self._feature_shape(term, taught[sources[0]].features[other]) if sources else mine
                for projectors, shape, target in (
                    (term.student_projs, mine, theirs),
                    (term.teacher_projs, theirs, mine),
                ):
                    if projectors:
                        self._build_one(name, projectors[place], shape, target)
        self.to(own.logits.device)
        if any(isinstance(parameter, UninitializedParameter) for parameter in self.parameters()):
            self._initialize_lazy(own, taught, index)
        return self

    def _initialize_lazy(self, own: Signals, taught: Mapping[str, Signals], index: Tensor | None) -> None:
        """Lazy layers inside losses find their widths in a call, which must not count as one for the losses' memory."""
        targets = self.outputs.blank_targets(own.logits)
        index = torch.arange(len(targets), device=targets.device) if index is None else index
        kept = {name: buffer.clone() for name, buffer in self.named_buffers()}
        with _in_eval(self):
            self.combine(own, taught, targets, index=index, step=0.0, total=1.0)
        for name, buffer in self.named_buffers():
            buffer.copy_(kept[name])

    def _feature_shape(self, term: Term, feature: Tensor) -> tuple[int, ...]:
        """Shape of a feature as a projector sees it, without the batch."""
        axis = self.outputs.class_axis
        return (feature.shape[axis],) if term.by_event and axis is not None else tuple(feature.shape[1:])

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
            if self._calls[name].uses_teacher and not teachers:
                raise ValueError(f"term {name!r} ({type(term.loss).__name__}) needs a teacher, none was given")


def _union(groups: Iterable[tuple[str, ...]]) -> list[str]:
    return list(dict.fromkeys(tap for group in groups for tap in group))


def _check_teachers_batch(teachers: Mapping[str, Signals], batch: int) -> None:
    for name, signals in teachers.items():
        if len(signals.logits) != batch:
            raise ShapeError(f"teacher {name!r} gives {shape_text(signals.logits)} for a batch of {batch}")
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
