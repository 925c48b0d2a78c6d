"""The distiller: a training loop around an objective, for those who do not want to write their own.

It owns data order, optimizer, precision, splitting of batches, checkpoints, logs and selection. Two runs with the same
configuration on one machine give the same student to the bit, and so does a run that was interrupted and resumed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from policykd.errors import ConfigError
from policykd.kd.metric_registry import metric_for
from policykd.kd.objective.inputs import device_of, map_tensors
from policykd.kd.objective.objective import Objective, ObjectiveOutput
from policykd.kd.objective.taps import unwrap
from policykd.kd.objective.teachers import TeacherError, has_stored
from policykd.kd.training import checkpoint, run_files
from policykd.kd.training.averaging import Averaging
from policykd.kd.training.batches import Batch, BatchSource
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.distributed import (
    broadcast,
    data_parallel,
    gather_random_states,
    rank,
    restore_gathered_random_states,
    world_size,
)
from policykd.kd.training.export import export_student
from policykd.kd.training.fields import Fields
from policykd.kd.training.loaders import batch_source, draws_at_random
from policykd.kd.training.logs import Log, Logs
from policykd.kd.training.loop import train_epoch
from policykd.kd.training.modes import freeze, frozen_layers, train_except
from policykd.kd.training.optimizers import (
    Every,
    Groups,
    Optimization,
    OptimizerFactory,
    SchedulerFactory,
    named_parameters,
    parameter_groups,
)
from policykd.kd.training.selection import RunState, Selection
from policykd.kd.training.stages import Stage, as_stages
from policykd.kd.training.step import StepSetting, backward_step
from policykd.kd.training.variants import Augment, Variants
from policykd.torch_seeding import seeded_torch


class Distiller:
    """Trains a student under an objective, or under several in stages.

    Args:
        student: The student; trained in place. Layers in eval mode stay in it, see
            :func:`policykd.kd.training.modes.frozen_layers`.
        teacher: What the objective takes as teacher (a module must be in eval mode), or None.
        objective: The objective, whose losses and projectors are trained too; or stages in order, whose epochs count
            then instead of those of the configuration.
        config: The run.
        folder: Where checkpoints go, seen by all processes; none are written without it.
        logs: What listens, for example ``JSONLines(folder)``, ``TensorBoard(folder)``, ``ProgressBar()``.
        fields: Which entries of samples and batches are inputs, labels, mask and weights.
        optimizer: Factory of an optimizer, ``functools.partial(torch.optim.AdamW, lr=1e-3)``, instead of the
            configuration's.
        groups: Parameter groups: pattern of names -> options, such as ``{"fc.*": {"lr": 1e-2}}``; parameters of the
            objective are called ``objective.<name>``. The first pattern that matches counts.
        scheduler: Factory of a torch scheduler, ``functools.partial(CosineAnnealingLR, T_max=30)``.
        scheduler_step: Whether it steps every ``"epoch"`` or every ``"step"``.
        frozen: Patterns of layers that are not trained and whose batch statistics stay, such as ``["stem", "layer1"]``.
        averaging: Average of the weights; validation, selection and export use it.
        metric: Metric of selection, a name in :data:`policykd.kd.metric_registry.METRICS`; by default accuracy, mean
            average precision or mean absolute error, after the kind of outputs.
        report: More metrics to compute on validation data.

    Raises:
        ConfigError: An option is out of range, or a pattern matches nothing.

    Example:
        >>> run = Distiller(student, teacher, objective, TrainConfig(epochs=20))  # doctest: +SKIP
        >>> student = run.fit(task.train, task.val).export()  # doctest: +SKIP
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Any,
        objective: Objective | Sequence[Stage],
        config: TrainConfig | None = None,
        *,
        folder: str | Path | None = None,
        logs: Sequence[Log] = (),
        fields: Fields = Fields(),
        optimizer: OptimizerFactory | None = None,
        groups: Groups | None = None,
        scheduler: SchedulerFactory | None = None,
        scheduler_step: Every = "epoch",
        frozen: Sequence[str] = (),
        averaging: Averaging | None = None,
        metric: str = "",
        report: Sequence[str] = (),
    ) -> None:
        self.student, self.teacher, self.config = student, teacher, config or TrainConfig()
        self.stages = as_stages(objective, self.config.epochs)
        self.objective = self.stages[0].objective
        self.folder = None if folder is None else Path(folder)
        self.logs, self.fields = tuple(logs), fields
        self.optimizer, self.groups = optimizer, dict(groups or {})
        self.scheduler, self.scheduler_step = scheduler, scheduler_step
        outputs = self.stages[-1].objective.outputs
        chosen, *reported = (metric_for(name, outputs.kind) for name in (metric, *report))
        self._selection = Selection(chosen, reported, outputs, fields, averaging)
        freeze(student, frozen)
        self._state = RunState()

    @property
    def history(self) -> list[dict[str, Any]]:
        """The epoch records so far: loss, terms, weights, metrics, learning rate, seconds."""
        return self._state.history

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)

    def fit(
        self, train: Any, val: Any = None, *, augment: Augment | Variants | None = None, resume: bool = False
    ) -> Distiller:
        """Train to the end of the last stage.

        Args:
            train: A pair of tensors, a :class:`policykd.kd.tasks.base.Split`, a mapping of tensors, a map-style data
                set, or a ``DataLoader``, which then sets batch size, order and workers. The sample indices that losses
                and caches see are positions in the data.
            val: Validation data of the same kinds; needed for ``select="best"``. Test data have no place here on
                purpose.
            augment: ``(x, generator) -> x`` on training batches, or :class:`Variants` for cached teachers.
            resume: Go on from the checkpoint in ``folder`` if there is one.

        Raises:
            ConfigError: Selection asks for validation data that is not given, or ``resume`` for a folder.
            FloatingPointError: The training diverged.
            TeacherError: A teacher's outputs are stored, but the student sees other inputs.
            ValueError: A batch cannot be used.
            CheckpointError: The checkpoint is damaged or of another configuration.
        """
        if self.config.select == "best" and val is None:
            raise ConfigError("select='best' needs validation data: fit(train, val)")
        if has_stored(self.teacher) and draws_at_random(train, self.fields):
            raise TeacherError(
                "the data set transforms its samples at random, so a teacher's stored outputs are not those for the "
                "student's inputs: give the teacher itself, or move the transform to augment=Variants(...)"
            )
        config = self.config
        options: dict[str, Any] = {"seed": config.seed, "drop_last": config.drop_last, "fields": self.fields}
        batches = batch_source(train, config.batch_size, augment=augment, **options)
        plain = batch_source(train, config.batch_size, shuffle=False, **options)
        with checkpoint.own_randomness(config.seed + 7919 * rank()):
            self._prepare(batches)
            loaded = self._resume() if resume else None
            with Logs(self.logs if rank() == 0 else (), self._state.step) as logs:
                logs.write(self._start_record(batches))
                for number in range(self._state.stage, len(self.stages)):
                    self._run_stage(number, batches, plain, val, logs, loaded)
                    loaded = None
                end = {"kind": "end", "step": self._state.step, "epoch": self._state.epoch}
                logs.write(end | self._selection.summary(self._state, config.select))
            self._selection.finish(self.student, plain)
        return self

    def export(self) -> nn.Module:
        """A clean copy of the selected student: no hooks, no teacher, no projectors, in eval mode."""
        kept = self._selection
        chosen = kept.best_weights if self.config.select == "best" else kept.final_weights
        return export_student(self.student, chosen)

    def _prepare(self, batches: BatchSource) -> None:
        self._refuse_joined_losses()
        self._state, self._frozen = RunState(), frozen_layers(self.student)
        self._selection.begin(self._frozen)
        device = device_of(self.student)
        sample = next(iter(batches.epoch(0))).to(device)
        x = map_tensors(lambda t: t[:2], sample.x)
        index = None if sample.teacher_index is None else sample.teacher_index[:2]
        for stage in self.stages:
            # projectors draw from a stream of their own, so that adding one does not change the student's initial draws
            with seeded_torch(self.config.seed):
                stage.objective.to(device)
                stage.objective.build(self.student, self.teacher, x, index)
        broadcast([*self.student.state_dict().values(), *self._objective_tensors()])

    def _objective_tensors(self) -> Iterator[Tensor]:
        for stage in self.stages:
            yield from stage.objective.state_dict().values()

    def _refuse_joined_losses(self) -> None:
        for name, loss in ((name, loss) for stage in self.stages for name, loss in stage.objective.losses.items()):
            if world_size() > 1 and getattr(loss, "gather_distributed", False):
                raise ConfigError(f"term {name!r}: leave gather_distributed off, the distiller joins processes itself")

    def _run_stage(
        self,
        number: int,
        batches: BatchSource,
        plain: BatchSource,
        val: Any,
        logs: Logs,
        loaded: Mapping[str, Any] | None,
    ) -> None:
        state, stage = self._state, self.stages[number]
        self.objective = stage.objective
        if number != state.stage:
            state.stage, state.stage_epoch, state.best_epoch = number, 0, -1
            self._selection.begin(self._frozen)
        with self._trained(stage) as student:
            named = named_parameters(self._own_student(), self.objective)
            optimization = Optimization(
                parameter_groups(named, self.groups),
                self.config,
                stage.epochs,
                optimizer=self.optimizer,
                scheduler=self.scheduler,
                every=self.scheduler_step,
            )
            if loaded is not None:
                with run_files.fitting(self.folder):
                    optimization.load_state_dict(loaded)
                restore_gathered_random_states(loaded["random"], device_of(self.student))
            while state.stage_epoch < stage.epochs:
                self._epoch(student, optimization, batches, plain, val, logs)

    @contextmanager
    def _trained(self, stage: Stage) -> Iterator[nn.Module]:
        """The student as a stage runs it: in a data-parallel wrapper, or without gradients where it is not trained."""
        if stage.train_student:
            yield data_parallel(self.student)
            return
        trained = [parameter for parameter in self.student.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield self.student
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)

    def _epoch(
        self,
        student: nn.Module,
        optimization: Optimization,
        batches: BatchSource,
        plain: BatchSource,
        val: Any,
        logs: Logs,
    ) -> None:
        state, began, config = self._state, time.perf_counter(), self.config
        if self.stages[state.stage].train_student:
            train_except(student, self._frozen)
        else:
            student.eval()
        self.objective.train()
        epoch = train_epoch(
            lambda batch, position: self._backward(student, batch.to(device_of(self.student)), position),
            optimization.optimizer,
            batches,
            state.epoch,
            optimization.set_rates,
            clip_norm=config.clip_norm,
            first=state.epoch - state.stage_epoch,
            start=state.step_in_epoch,
        )
        for batch, out in epoch:
            state.step += 1
            state.step_in_epoch += 1
            optimization.after_step()
            self._selection.average("ema", self.student, state.stage_epoch)
            self._count(out, batch)
            if config.log_steps and state.step % config.log_steps == 0:
                logs.write({"kind": "step", "step": state.step, "loss": out.loss.item(), **_named("term", out.terms)})
            every = config.checkpoint_steps
            if every and state.step % every == 0 and state.step_in_epoch < len(batches):
                self._save(optimization)
        broadcast([*self.student.buffers(), *self.objective.state_dict().values()])
        record = self._epoch_record(out, optimization, time.perf_counter() - began)
        record |= self._select(optimization, plain, val)
        state.history.append(record)
        logs.write(record)
        if state.epoch % config.checkpoint_epochs == 0 or state.epoch == self.epochs:
            self._save(optimization)

    def _backward(self, student: nn.Module, batch: Batch, position: float) -> ObjectiveOutput:
        config = self.config
        return backward_step(
            student,
            self.teacher,
            self.objective,
            batch,
            StepSetting(config.micro_batches, config.amp, config.seed),
            number=self._state.step,
            step=position,
            total=float(self.stages[self._state.stage].epochs),
        )

    def _count(self, out: ObjectiveOutput, batch: Batch) -> None:
        samples = sum(batch.sizes)
        for name, value in {"loss": out.loss.item(), **_named("term", out.terms), "samples": 1.0}.items():
            self._state.sums[name] = self._state.sums.get(name, 0.0) + value * samples

    def _epoch_record(self, out: ObjectiveOutput, optimization: Optimization, seconds: float) -> dict[str, Any]:
        """Close the epoch and return its record."""
        state = self._state
        samples = state.sums.pop("samples")
        state.epoch, state.stage_epoch, state.step_in_epoch = state.epoch + 1, state.stage_epoch + 1, 0
        record: dict[str, Any] = {"kind": "epoch", "epoch": state.epoch, "step": state.step}
        record |= {"stage": state.stage} if len(self.stages) > 1 else {}
        record |= {name: total / samples for name, total in state.sums.items()}
        record |= {f"weight/{name}": weight for name, weight in out.weights.items()}
        record |= {"lr": optimization.optimizer.param_groups[0]["lr"], "seconds": seconds}
        state.sums = {}
        return record

    def _select(self, optimization: Optimization, plain: BatchSource, val: Any) -> dict[str, float]:
        """Average, validate and keep weights after an epoch; return the metrics for its record."""
        selection = self._selection
        selection.average("swa", self.student, self._state.stage_epoch - 1)
        found = {} if val is None else selection.validate(self._state, self.student, plain, val)
        optimization.after_epoch(found.get(selection.metric.name))
        return {f"val_{name}": value for name, value in found.items()}

    def _save(self, optimization: Optimization) -> None:
        if self.folder is None:
            return
        random = gather_random_states(device_of(self.student))
        tree = {
            "config": run_files.as_json(self.config),
            "run": self._run_options(),
            "state": asdict(self._state),
            "student": dict(self._own_student().state_dict()),
            "objective": dict(self.objective.state_dict()),
            **optimization.state_dict(),
            **self._selection.state_dict(),
            "random": random,
        }
        if len(self.stages) > 1:
            tree["objectives"] = [dict(stage.objective.state_dict()) for stage in self.stages]
        run_files.save(self.folder, tree)

    def _resume(self) -> Mapping[str, Any] | None:
        if self.folder is None:
            raise ConfigError("resume needs a folder: Distiller(..., folder=...)")
        tree = run_files.load(self.folder, run_files.as_json(self.config), self._run_options())
        if tree is None:
            return None
        self._state = RunState(**tree["state"])
        with run_files.fitting(self.folder):
            self._own_student().load_state_dict(tree["student"])
            states = tree.get("objectives", [tree["objective"]])
            for stage, weights in zip(self.stages, states, strict=True):
                stage.objective.load_state_dict(weights)
            self._selection.load_state_dict(tree, self.student)
        return tree

    def _run_options(self) -> dict[str, Any]:
        """What a resumed run must share with the interrupted one, besides the configuration."""
        return run_files.as_json(
            {
                "stages": [stage.epochs for stage in self.stages],
                "metric": self._selection.metric.name,
                "averaging": None if self._selection.averaging is None else asdict(self._selection.averaging),
            }
        )

    def _own_student(self) -> nn.Module:
        return unwrap(self.student)

    def _start_record(self, batches: BatchSource) -> dict[str, Any]:
        return {
            "kind": "start",
            "step": self._state.step,
            "epoch": self._state.epoch,
            "epochs": self.epochs,
            "steps_per_epoch": len(batches),
            "samples": batches.samples,
            "processes": world_size(),
            "torch": torch.__version__,
            "config": run_files.as_json(self.config),
        }


def _named(prefix: str, values: Mapping[str, Tensor]) -> dict[str, float]:
    return {f"{prefix}/{name}": float(value) for name, value in values.items()}
