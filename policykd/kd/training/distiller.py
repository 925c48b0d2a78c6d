"""The distiller: a training loop around an objective, for those who do not want to write their own.

It owns data order, optimizer, precision, splitting of batches, checkpoints, logs and selection. Two runs with the same
configuration on one machine give the same student to the bit, and so does a run that was interrupted and resumed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from policykd.errors import ConfigError
from policykd.kd.objective.inputs import map_tensors
from policykd.kd.objective.objective import Objective, ObjectiveOutput
from policykd.kd.objective.taps import unwrap
from policykd.kd.training import checkpoint
from policykd.kd.training.batches import Augment, Batch, Batches
from policykd.kd.training.checkpoint import CheckpointError
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.distributed import (
    barrier,
    broadcast,
    data_parallel,
    gather_random_states,
    rank,
    restore_gathered_random_states,
    world_size,
)
from policykd.kd.training.evaluate import accuracy
from policykd.kd.training.export import export_student
from policykd.kd.training.logs import Log, Logs
from policykd.kd.training.loop import train_epoch
from policykd.kd.training.modes import frozen_layers, train_except
from policykd.kd.training.step import StepSetting, backward_step

LAST = "last.safetensors"


@dataclass
class _State:
    """Where a run stands."""

    epoch: int = 0  # epochs done
    step: int = 0  # optimizer steps done
    step_in_epoch: int = 0
    sums: dict[str, float] = field(default_factory=dict)  # of the running epoch, weighted by samples
    best: float = -1.0
    best_epoch: int = -1
    history: list[dict[str, Any]] = field(default_factory=list)


class Distiller:
    """Trains a student under an objective.

    Args:
        student: The student; trained in place.
        teacher: What the objective takes as teacher (a module must be in eval mode), or None.
        objective: The objective; its losses and projectors are trained too.
        config: The run.
        folder: Where checkpoints go, seen by all processes; none are written without it.
        logs: What listens, for example ``JSONLines(folder)``, ``TensorBoard(folder)``, ``ProgressBar()``.

    Example:
        >>> run = Distiller(student, teacher, objective, TrainConfig(epochs=20))  # doctest: +SKIP
        >>> student = run.fit(task.train, task.val).export()  # doctest: +SKIP
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Any,
        objective: Objective,
        config: TrainConfig | None = None,
        *,
        folder: str | Path | None = None,
        logs: Sequence[Log] = (),
    ) -> None:
        self.student, self.teacher, self.objective = student, teacher, objective
        self.config = config or TrainConfig()
        self.folder = Path(folder) if folder is not None else None
        self.logs = tuple(logs)
        self._state = _State()
        self._best_weights: dict[str, Tensor] | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record per epoch: loss, terms, weights, accuracies, learning rate, seconds."""
        return self._state.history

    def fit(self, train: Any, val: Any = None, *, augment: Augment | None = None, resume: bool = False) -> Distiller:
        """Train to the end of the configured epochs.

        Args:
            train: A pair of tensors, an object with ``x`` and ``y``, or a map-style data set of pairs. The sample
                indices that losses and caches see are positions in it.
            val: Validation data of the same kinds; needed for ``select="best"``. Test data have no place here on
                purpose.
            augment: ``(x, generator) -> x`` on training batches.
            resume: Go on from the checkpoint in ``folder`` if there is one.

        Raises:
            ConfigError: Selection asks for validation data that is not given, or ``resume`` for a folder.
            FloatingPointError: The training diverged.
            ValueError: A batch cannot be used.
            CheckpointError: The checkpoint is damaged or of another configuration.
        """
        if self.config.select == "best" and val is None:
            raise ConfigError("select='best' needs validation data: fit(train, val)")
        batches = Batches(
            train,
            self.config.batch_size,
            seed=self.config.seed,
            drop_last=self.config.drop_last,
            augment=augment,
            rank=rank(),
            world=world_size(),
        )
        with _own_randomness(self.config.seed + 7919 * rank()):
            optimizer, student = self._prepare(batches)
            if resume:
                self._resume(optimizer)
            with Logs(self.logs if rank() == 0 else (), self._state.step) as logs:
                logs.write(self._start_record(batches))
                while self._state.epoch < self.config.epochs:
                    self._epoch(student, optimizer, batches, val, logs)
                logs.write({"kind": "end", "step": self._state.step, "epoch": self._state.epoch, **self._selection()})
        return self

    def export(self) -> nn.Module:
        """A clean copy of the selected student: no hooks, no teacher, no projectors, in eval mode."""
        chosen = self._best_weights if self.config.select == "best" else None
        return export_student(self.student, chosen)

    def _prepare(self, batches: Batches) -> tuple[torch.optim.Optimizer, nn.Module]:
        self._refuse_joined_losses()
        self._state, self._best_weights = _State(), None
        self._frozen = frozen_layers(self.student)
        device = self._device()
        sample = next(batches.epoch(0)).to(device)
        # projectors draw from a stream of their own, so that adding one does not change the student's initial draws
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            self.objective.to(device)
            index = None if sample.teacher_index is None else sample.teacher_index[:2]
            self.objective.build(self.student, self.teacher, map_tensors(lambda t: t[:2], sample.x), index)
        trained = [p for p in (*self.student.parameters(), *self.objective.parameters()) if p.requires_grad]
        broadcast([*self.student.state_dict().values(), *self.objective.state_dict().values()])
        return self.config.optimizer.build(trained), data_parallel(self.student)

    def _refuse_joined_losses(self) -> None:
        for name, loss in self.objective.losses.items():
            if world_size() > 1 and getattr(loss, "gather_distributed", False):
                raise ConfigError(f"term {name!r}: leave gather_distributed off, the distiller joins processes itself")

    def _epoch(
        self, student: nn.Module, optimizer: torch.optim.Optimizer, batches: Batches, val: Any, logs: Logs
    ) -> None:
        state, began = self._state, time.perf_counter()
        train_except(student, self._frozen)
        self.objective.train()
        epoch = train_epoch(
            lambda batch, position: self._backward(student, batch.to(self._device()), position),
            optimizer,
            batches,
            self.config,
            state.epoch,
            state.step_in_epoch,
        )
        for batch, out in epoch:
            state.step += 1
            state.step_in_epoch += 1
            self._count(out, batch)
            if self.config.log_steps and state.step % self.config.log_steps == 0:
                logs.write({"kind": "step", "step": state.step, "loss": out.loss.item(), **_named("term", out.terms)})
            every = self.config.checkpoint_steps
            if every and state.step % every == 0 and state.step_in_epoch < len(batches):
                self._save(optimizer)
        broadcast([*self.student.buffers(), *self.objective.state_dict().values()])
        record = self._finish_epoch(out, optimizer, val, time.perf_counter() - began)
        logs.write(record)
        if state.epoch % self.config.checkpoint_epochs == 0 or state.epoch == self.config.epochs:
            self._save(optimizer)

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
            total=float(config.epochs),
        )

    def _count(self, out: ObjectiveOutput, batch: Batch) -> None:
        samples = sum(batch.sizes)
        for name, value in {"loss": out.loss.item(), **_named("term", out.terms), "samples": 1.0}.items():
            self._state.sums[name] = self._state.sums.get(name, 0.0) + value * samples

    def _finish_epoch(
        self, out: ObjectiveOutput, optimizer: torch.optim.Optimizer, val: Any, seconds: float
    ) -> dict[str, Any]:
        state = self._state
        samples = state.sums.pop("samples")
        state.epoch, state.step_in_epoch = state.epoch + 1, 0
        record: dict[str, Any] = {"kind": "epoch", "epoch": state.epoch, "step": state.step}
        record |= {name: total / samples for name, total in state.sums.items()}
        record |= {f"weight/{name}": weight for name, weight in out.weights.items()}
        record |= {"lr": optimizer.param_groups[0]["lr"], "seconds": seconds}
        state.sums = {}
        if val is not None:
            record["val_accuracy"] = accuracy(self.student, val)
            # a tie keeps the earlier epoch, so that selection does not drift to the end of a flat curve
            if record["val_accuracy"] > state.best:
                state.best, state.best_epoch = record["val_accuracy"], state.epoch
                self._best_weights = {k: v.detach().cpu().clone() for k, v in self._own_student().state_dict().items()}
        state.history.append(record)
        return record

    def _save(self, optimizer: torch.optim.Optimizer) -> None:
        if self.folder is None:
            return
        random = gather_random_states(self._device())
        if rank() == 0:
            tree = {
                "config": _plain(self.config),
                "state": asdict(self._state),
                "student": dict(self._own_student().state_dict()),
                "objective": dict(self.objective.state_dict()),
                "optimizer": optimizer.state_dict(),
                "best": self._best_weights,
                "random": random,
            }
            checkpoint.save(self.folder / LAST, tree)
        barrier()

    def _resume(self, optimizer: torch.optim.Optimizer) -> None:
        if self.folder is None:
            raise ConfigError("resume needs a folder: Distiller(..., folder=...)")
        if not (self.folder / LAST).exists():
            return
        tree = checkpoint.load(self.folder / LAST)
        _check_same_run(self.folder / LAST, tree["config"], _plain(self.config))
        try:
            self._own_student().load_state_dict(tree["student"])
            self.objective.load_state_dict(tree["objective"])
            optimizer.load_state_dict(tree["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"{self.folder / LAST} does not fit this student and objective: {error}") from error
        self._state, self._best_weights = _State(**tree["state"]), tree["best"]
        restore_gathered_random_states(tree["random"], self._device())

    def _own_student(self) -> nn.Module:
        return unwrap(self.student)

    def _device(self) -> torch.device:
        return next((parameter.device for parameter in self.student.parameters()), torch.device("cpu"))

    def _selection(self) -> dict[str, Any]:
        best = {"best_epoch": self._state.best_epoch, "best_val_accuracy": self._state.best}
        return {"select": self.config.select, **(best if self._state.best_epoch >= 0 else {})}

    def _start_record(self, batches: Batches) -> dict[str, Any]:
        return {
            "kind": "start",
            "step": self._state.step,
            "epoch": self._state.epoch,
            "epochs": self.config.epochs,
            "steps_per_epoch": len(batches),
            "samples": batches.samples,
            "processes": world_size(),
            "torch": torch.__version__,
            "config": _plain(self.config),
        }


def _named(prefix: str, values: Mapping[str, Tensor]) -> dict[str, float]:
    return {f"{prefix}/{name}": float(value) for name, value in values.items()}


def _plain(config: TrainConfig) -> dict[str, Any]:
    """The configuration as JSON gives it back (tuples become lists)."""
    return json.loads(json.dumps(asdict(config)))


def _check_same_run(path: Path, stored: dict[str, Any], current: dict[str, Any]) -> None:
    free = {"log_steps", "checkpoint_steps", "checkpoint_epochs"}  # they change no number of the run
    other = [name for name in current if name not in free and stored.get(name) != current[name]]
    if other:
        listed = ", ".join(f"{name} {stored.get(name)} -> {current[name]}" for name in other)
        raise CheckpointError(f"{path} was made with another configuration ({listed}): use it, or another folder")


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seed torch for the run and give the caller's random states back afterward."""
    before = checkpoint.random_states()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        checkpoint.restore_random_states(before)
