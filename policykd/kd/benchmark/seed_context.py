"""One seed of a benchmark, as all losses share it: split, teacher and its outputs, initial student, data order.

It trains the teacher once per seed; everything that differs between methods is elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from policykd.errors import ConfigError, OutputError
from policykd.kd.benchmark.config import BenchConfig, load_task, make_network
from policykd.kd.benchmark.placements import PlacementContext
from policykd.kd.metrics import figures
from policykd.kd.objective.taps import Taps
from policykd.kd.tasks import Split, Task
from policykd.kd.training import checkpoint
from policykd.kd.training.checkpoint import CheckpointError
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.evaluate import predict
from policykd.kd.training.loop import seeded, train_classifier
from policykd.kd.training.teacher_cache import TeacherCache
from policykd.seeding import integer_seed

CACHE_BYTES = 2_000_000_000
"""Most features kept in memory; beyond that the teacher runs along with the student."""

_ROWS = 256  # samples that the teacher sees at once; fixed, so that its outputs have the same bits in every process


class SeedContext:
    """One seed of a benchmark, teacher included.

    Args:
        config: The benchmark.
        seed: The seed.
        teacher: The trained teacher.
    """

    def __init__(self, config: BenchConfig, seed: int, teacher: nn.Module) -> None:
        self.config, self.seed, self.teacher = config, seed, teacher.eval()
        self.task = load_task(config, seed)
        self._features: dict[str, Tensor] = {}

    def student(self) -> nn.Module:
        """A student with the seed's initial weights, the same for every loss."""
        make = lambda: make_network(self.config.student, self.task.student, self.task)  # noqa: E731
        return seeded(make, self.seed, "benchmark", "student")

    def placement_context(self) -> PlacementContext:
        """The task and networks that losses are placed in."""
        seed = integer_seed(self.seed, "benchmark", "loss")
        return PlacementContext(self.task, self.student(), self.teacher, self.some_features, seed)

    def training(self, lr_factor: float = 1.0) -> TrainConfig:
        """Training of a student: the seed's data order, the learning rate times a factor."""
        train = self.config.train
        optimizer = replace(train.optimizer, lr=lr_factor * train.optimizer.lr)
        return replace(train, optimizer=optimizer, seed=integer_seed(self.seed, "benchmark", "order"))

    def teaching(self, taps: Iterable[str]) -> TeacherCache | nn.Module:
        """Return the teacher's outputs and features on the training samples by sample index, computed once per tap.

        Where the features would not fit into :data:`CACHE_BYTES`, return the teacher itself.
        """
        wanted = list(taps)
        sizes = {tap: rows.nbytes * len(self.task.train) for tap, rows in self._features_of(wanted, 1).items()}
        if sum(sizes.values()) > CACHE_BYTES:
            return self.teacher
        missing = [tap for tap in wanted if tap not in self._features]
        held = sum(rows.nbytes for rows in self._features.values())
        if held + sum(sizes[tap] for tap in missing) > CACHE_BYTES:
            self._features, missing = {}, wanted
        self._features |= self._features_of(missing, len(self.task.train)) if missing else {}
        arrays = {tap: self._features[tap].numpy() for tap in wanted}
        return TeacherCache(self._train_logits.numpy(), arrays, name=f"teacher of seed {self.seed}")

    def some_features(self, tap: str, samples: int) -> Tensor:
        """Return the teacher's features of the first `samples` training samples."""
        return self._features_of([tap], samples)[tap]

    def _features_of(self, taps: list[str], samples: int) -> dict[str, Tensor]:
        parts: dict[str, list[Tensor]] = {tap: [] for tap in taps}
        with torch.no_grad(), Taps(taps).attach(self.teacher, detach=True) as seen:
            for x in self.task.train.x[:samples].split(_ROWS):
                self.teacher(x)
                for tap in taps:
                    parts[tap].append(seen.tensor(tap))
        return {tap: torch.cat(rows) for tap, rows in parts.items()}

    @cached_property
    def taught_val(self) -> Tensor:
        """The teacher's logits of the validation data."""
        return self._taught(self.task.val)

    @cached_property
    def taught_test(self) -> Tensor:
        """The teacher's logits of the test data."""
        return self._taught(self.task.test)

    @cached_property
    def _train_logits(self) -> Tensor:
        return self._taught(self.task.train)

    def _taught(self, split: Split) -> Tensor:
        return predict(self.teacher, split, batch_size=_ROWS)[0]


def teacher_path(folder: Path, seed: int) -> Path:
    """Return the path of a seed's teacher."""
    return folder / "teachers" / f"seed-{seed}.safetensors"


def train_teacher(config: BenchConfig, seed: int, folder: Path) -> None:
    """Train a seed's teacher and save it with its figures on validation and test data.

    Raises:
        ConfigError: The training diverged.
    """
    task = load_task(config, seed)
    teacher = _new_teacher(config, seed, task)
    train = replace(config.teacher_train, seed=integer_seed(seed, "benchmark", "teacher order"))
    try:
        train_classifier(teacher, task.for_teacher, train)
    except FloatingPointError as error:
        raise ConfigError(f"the teacher of seed {seed} diverged: {error}; lower teacher_train.optimizer.lr") from None
    measured = {name: figures(*predict(teacher.eval(), getattr(task, name))) for name in ("val", "test")}
    checkpoint.save(teacher_path(folder, seed), {"seed": seed, "weights": teacher.state_dict(), "figures": measured})


def teacher_figures(folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """A saved teacher's figures on ``val`` and ``test``.

    Raises:
        OutputError: The file is damaged.
    """
    return _read_teacher(folder, seed)["figures"]


@lru_cache(maxsize=1)
def load_seed_context(config: BenchConfig, seed: int, folder: Path) -> SeedContext:
    """Return a seed whose teacher was saved; the last one is kept, since a seed's cells come one after the other.

    Raises:
        OutputError: The teacher's file is damaged or of another network.
    """
    task = load_task(config, seed)
    teacher = _new_teacher(config, seed, task)
    try:
        teacher.load_state_dict(_read_teacher(folder, seed)["weights"])
    except RuntimeError as error:
        raise OutputError(f"{teacher_path(folder, seed)} is of another network ({error}); delete it") from None
    return SeedContext(config, seed, teacher)


def _new_teacher(config: BenchConfig, seed: int, task: Task) -> nn.Module:
    return seeded(lambda: make_network(config.teacher, task.teacher, task), seed, "benchmark", "teacher")


def _read_teacher(folder: Path, seed: int) -> dict[str, Any]:
    path = teacher_path(folder, seed)
    try:
        tree = checkpoint.load(path)
    except CheckpointError as error:
        raise OutputError(f"{error}; delete {path} and the run makes it again") from None
    if not isinstance(tree, dict) or tree.get("seed") != seed:
        raise OutputError(f"{path} is not the teacher of seed {seed}; delete it and the run makes it again")
    return tree
