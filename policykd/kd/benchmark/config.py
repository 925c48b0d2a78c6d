"""What a benchmark is, as a frozen record, with the task and the networks that it names.

It checks names and ranges, and trains nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from policykd.errors import ConfigError, UnknownNameError, check_range
from policykd.kd import tasks
from policykd.kd.benchmark.settings import MOST_CANDIDATES
from policykd.kd.networks import ResNet
from policykd.kd.registry import LOSSES
from policykd.kd.tasks import Task
from policykd.kd.training.config import TrainConfig

OWN = "task"
"""Name of the task's own network."""

_RESNET = re.compile(r"resnet(\d+):(\d+),(\d+),(\d+),(\d+)")


@dataclass(frozen=True)
class BenchConfig:
    """A benchmark.

    Attributes:
        task: Name of the task.
        methods: Names of losses, or ``package.module:Attribute`` of records, each once, the baseline among them.
        seeds: Number of seeds, counted from 0.
        tune: Candidate settings per method and seed; 1 is the default setting alone.
        baseline: Method that the others are compared with.
        student: ``task`` for the task's own network, or a residual network such as ``resnet8:2,2,4,8`` (widths of the
            stem and of the three stages).
        teacher: The same for the teacher.
        train: Training of every student; its seed stays 0, since ``seeds`` says which ones run.
        teacher_train: Training of the teachers, by cross-entropy on what the task gives to teachers.
        task_options: Options of the task's function, as pairs.

    Raises:
        UnknownNameError: The task or a method is unknown.
        ConfigError: A field is out of range, or the baseline is not among the methods.
    """

    task: str
    methods: tuple[str, ...]
    seeds: int = 10
    tune: int = 1
    baseline: str = "ce"
    student: str = OWN
    teacher: str = OWN
    train: TrainConfig = field(default_factory=TrainConfig)
    teacher_train: TrainConfig = field(default_factory=TrainConfig)
    task_options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.task not in tasks.available():
            raise UnknownNameError("task", self.task, tasks.available())
        for name in (*self.methods, self.baseline):
            LOSSES.resolve(name)  # raises with close matches
        if len(set(self.methods)) != len(self.methods):
            raise ConfigError(f"methods names one twice: {', '.join(self.methods)}")
        if self.baseline not in self.methods:
            raise ConfigError(
                f"the baseline {self.baseline!r} is not among the methods ({', '.join(self.methods) or 'none'}): add "
                "it to --methods or choose another --baseline"
            )
        if self.seeds < 2:
            raise ConfigError(
                f"seeds is {self.seeds}: fewer than two show no spread, so nothing can be said about any method"
            )
        check_range("seeds", self.seeds, 2, 10_000)
        check_range("tune", self.tune, 1, MOST_CANDIDATES)
        for name in ("train", "teacher_train"):
            if getattr(self, name).seed != 0:
                raise ConfigError(f"{name}.seed is {getattr(self, name).seed}: leave it at 0, --seeds says which run")

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the content of a cell: all but which methods and how many seeds are run and compared."""
        free = ("methods", "seeds", "baseline")
        return {name: value for name, value in vars(self).items() if name not in free}


def load_task(config: BenchConfig, seed: int) -> Task:
    """The task of one seed, which fixes its split.

    Raises:
        UnknownNameError: The task has no such option.
        ConfigError: An option is out of range or of another type, or one that the task needs is missing.
    """
    chosen = tasks.typed_options(config.task, dict(config.task_options))
    try:
        return tasks.load(config.task, **{**chosen, "seed": seed})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"task {config.task}: {error}") from None


def make_network(name: str, own: Any, task: Task) -> nn.Module:
    """The network of a name.

    Args:
        name: ``task``, or such as ``resnet8:2,2,4,8``.
        own: Makes the task's own network.
        task: The task, for the numbers of classes and channels.

    Raises:
        ConfigError: The name cannot be read, or a residual network does not fit the inputs.
    """
    if name == OWN:
        return own()
    match = _RESNET.fullmatch(name)
    if match is None:
        raise ConfigError(f"a network is '{OWN}' or such as 'resnet8:2,2,4,8', not {name!r}")
    if len(task.input_shape) != 3:
        raise ConfigError(f"{name} takes images, task {task.name!r} has inputs {task.input_shape}: use '{OWN}'")
    depth, *widths = map(int, match.groups())
    try:
        return ResNet(depth, tuple(widths), classes=task.classes, in_channels=task.input_shape[0])  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None
