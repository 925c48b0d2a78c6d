"""The reference benchmark of each task: its networks and training, and the methods that can run on them.

The reference pairs are smaller than the tasks' own networks where those are too slow for a cell of a few seconds, or so
good that nothing is left to distil. They were chosen on two pilot seeds so that a student on labels alone stays clearly
below its teacher; the only methods that were tried for this are cross-entropy and plain KD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from policykd.errors import UnknownNameError, check_range
from policykd.kd import tasks
from policykd.kd.benchmark.config import OWN, BenchConfig
from policykd.kd.benchmark.placements import runnable
from policykd.kd.registry import LOSSES
from policykd.kd.training.config import OptimizerConfig, SchedulerConfig, TrainConfig


def training(epochs: int, batch_size: int, lr: float) -> TrainConfig:
    """SGD with Nesterov momentum, weight decay 5e-4, one epoch of warm-up, a cosine to zero, gradients up to norm 5.

    The bound on the gradient keeps losses finite whose published weights were made for longer runs of larger networks.
    """
    return TrainConfig(
        epochs=epochs,
        batch_size=batch_size,
        clip_norm=5.0,
        optimizer=OptimizerConfig(lr=lr, nesterov=True),
        scheduler=SchedulerConfig("cosine", warmup=1.0),
    )


@dataclass(frozen=True)
class Reference:
    """Networks and training of a task, see :class:`BenchConfig` for the fields."""

    student: str = OWN
    teacher: str = OWN
    train: TrainConfig = field(default_factory=lambda: training(30, 128, 0.1))
    teacher_train: TrainConfig = field(default_factory=lambda: training(30, 64, 0.05))
    task_options: tuple[tuple[str, Any], ...] = ()


_DIGITS = Reference("resnet8:2,2,4,8", OWN, training(24, 128, 0.1), training(12, 64, 0.05))
REFERENCES: Mapping[str, Reference] = MappingProxyType(
    {
        "digits": _DIGITS,
        "digits-noisy-label": _DIGITS,
        "digits-missing-class": _DIGITS,
        "digits-few-label": replace(_DIGITS, train=training(120, 64, 0.05)),
        "textures": Reference(
            "resnet8:4,4,8,16",
            "resnet8:16,16,32,64",
            training(16, 128, 0.1),
            training(12, 64, 0.05),
            (("side", 16),),
        ),
    }
)


def bench_config(
    task: str,
    chosen: Sequence[str] = ("all",),
    *,
    seeds: int = 10,
    tune: int = 1,
    baseline: str = "ce",
    epochs: int | None = None,
    task_options: Mapping[str, Any] = MappingProxyType({}),
) -> BenchConfig:
    """The configuration of a task's reference benchmark.

    Args:
        task: Name of the task.
        chosen: Names of methods, or ``all`` for every one that the task's networks can run.
        seeds: Number of seeds, counted from 0.
        tune: Candidate settings per method.
        baseline: Method that the others are compared with.
        epochs: Replaces the reference's epochs of the students.
        task_options: Options of the task, over those of the reference.

    Raises:
        UnknownNameError: No such task, method or task option; close matches are named.
        ConfigError: A value is out of range.
    """
    if task not in tasks.available():
        raise UnknownNameError("task", task, tasks.available())
    reference = REFERENCES.get(task, Reference())
    train = reference.train if epochs is None else _with_epochs(reference.train, epochs)
    options = tuple(sorted((dict(reference.task_options) | dict(task_options)).items()))
    named = tuple(LOSSES) if "all" in chosen else tuple(dict.fromkeys(chosen))
    config = BenchConfig(
        task,
        named,
        seeds,
        tune,
        baseline,
        reference.student,
        reference.teacher,
        train,
        reference.teacher_train,
        options,
    )
    if "all" in chosen:
        return replace(config, methods=tuple(name for name, why in runnable(config).items() if not why))
    return config


def _with_epochs(train: TrainConfig, epochs: int) -> TrainConfig:
    check_range("epochs", epochs, 1, 100_000, "epochs")
    return replace(train, epochs=epochs)
