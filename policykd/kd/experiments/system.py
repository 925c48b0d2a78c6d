"""Systems: one distillation method with the arms that test it on paired seeds and the claims that they decide.

Subclass :class:`System`, state in class attributes what it is, and write ``arms``. Everything else has a default: the
digits are split by ``recipe.shares``, the teacher is trained by cross-entropy, every arm's student starts from the same
weights and sees the same batches, and ``measure`` reports test accuracy. A method of another shape overrides ``run``
and uses the pieces of :class:`Cell`.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.errors import ConfigError, check_range
from policykd.kd.experiments.digits import CLASSES, PIXELS, digits_rows
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.experiment import Comparison, Experiment, with_gates
from policykd.kd.experiments.limits import Temperature, Weight
from policykd.kd.metrics import accuracy
from policykd.kd.networks import MLP
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.taps import Taps
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.loop import distillation, minimize, seeded
from policykd.kd.training.teacher_cache import TeacherCache
from policykd.plain import check_limits
from policykd.seeding import integer_seed
from policykd.torch_seeding import seeded_torch

MOST_EPOCHS, MOST_STEPS = 100_000, 10_000_000


@dataclass(frozen=True)
class Fit:
    """Hidden widths and training of one role, by Adam without weight decay.

    Attributes:
        hidden: Widths of the hidden layers.
        epochs: Passes over the data; exactly one of ``epochs`` and ``steps`` is above 0.
        steps: Optimizer steps, with full batches, rounded up to whole epochs.
        batch_size: Samples per step; with ``steps``, all of them where there are fewer.
        lr: Learning rate.
        drop_last: Whether an incomplete last batch is left out; always so with ``steps``.

    Raises:
        ConfigError: A field is out of range, or both or neither of ``epochs`` and ``steps`` are given.
    """

    hidden: tuple[int, ...]
    epochs: int = 0
    steps: int = 0
    batch_size: int = 64
    lr: float = 2e-3
    drop_last: bool = False

    def __post_init__(self) -> None:
        check_range("epochs", self.epochs, 0, MOST_EPOCHS)
        check_range("steps", self.steps, 0, MOST_STEPS)
        if (self.epochs == 0) == (self.steps == 0):
            raise ConfigError(f"epochs is {self.epochs} and steps is {self.steps}; exactly one of them must be above 0")
        check_range("batch_size", self.batch_size, 1, 1_000_000)
        check_range("lr", self.lr, 1e-9, 1e3)
        for width in self.hidden:
            check_range("hidden", width, 1, 100_000)

    def config(self, samples: int, order: int) -> TrainConfig:
        """Return the training on ``samples`` samples, whose order in batches follows from the seed ``order``."""
        optimizer = OptimizerConfig("adam", lr=self.lr, weight_decay=0.0)
        if not self.steps:
            return TrainConfig(self.epochs, self.batch_size, seed=order, drop_last=self.drop_last, optimizer=optimizer)
        size = min(self.batch_size, samples)
        epochs = -(-self.steps // (samples // size))
        return TrainConfig(epochs, size, seed=order, drop_last=True, optimizer=optimizer)


@dataclass(frozen=True)
class DistillationRecipe:
    """Configuration of a system that brings its own data; subclasses add fields of their method.

    A field's type may name its limits, for example ``Share`` of :mod:`policykd.kd.experiments.limits`.

    Attributes:
        teacher: Widths and training of the teacher.
        student: Widths and training of every student.
        temperature: T of plain distillation.
        ce_weight: Weight of the labels' cross-entropy in plain distillation.
        kd_weight: Weight of the divergence in plain distillation.

    Raises:
        ConfigError: A field is out of range.
    """

    teacher: Fit
    student: Fit
    temperature: Temperature = 4.0
    ce_weight: Weight = 0.1
    kd_weight: Weight = 0.9

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class Recipe(DistillationRecipe):
    """Configuration of a system on the digits; subclasses add what only their method has.

    Attributes:
        parts: What each share of the digits is for.
        shares: Shares of the parts, which sum to one.

    Raises:
        ConfigError: A field is out of range.
    """

    parts: ClassVar[tuple[str, ...]] = ("training", "testing")
    shares: tuple[float, ...] = (0.56, 0.44)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.shares) != len(self.parts):
            raise ConfigError(f"shares is {self.shares}; give {len(self.parts)}: for {', '.join(self.parts)}")
        for share in self.shares:
            check_range("shares", share, 0.01, 0.99)
        if abs(sum(self.shares) - 1.0) > 1e-9:
            raise ConfigError(f"shares is {self.shares}; the shares of all splits must sum to 1")


R = TypeVar("R", bound=DistillationRecipe)
C = TypeVar("C")  # the configuration of a system: a recipe, unless the system overrides ``run``
StudentLoss = Callable[[Any, Batch, int], Tensor]
"""``(student, batch, epoch counted from 0) -> scalar`` with its graph."""


@dataclass(frozen=True)
class Arm:
    """One way of training the student.

    Attributes:
        loss: An objective, or ``(student, batch, epoch) -> scalar`` where a step needs more than one batch's signals.
        along: Modules that are trained together with the student; those of an objective are anyway.
        teacher: Anything that an objective takes as teacher; None for the cell's, asked once for all of ``transfer``.
        figures: ``student -> metric -> value``: metrics that only this arm has, added to ``System.measure``; None for
            none. They are asked for without gradients, after the training.
    """

    loss: StudentLoss | Objective
    along: Sequence[nn.Module] = ()
    teacher: Any = None
    figures: Callable[[Any], Mapping[str, float]] | None = None


class Cell(Generic[R]):
    """One seed of a system: data, teacher, students, all drawn from the seed and a purpose.

    Attributes:
        teacher_order: Key of the seed of the teacher's batches; None for the cell's own seed.
        student_order: Key of the seed of the students' batches; None for the cell's own seed.
        seed: The seed.
        recipe: The configuration.
        train: Data of the teacher.
        test: Data of the figures.
        validation: Data to choose by, in recipes with three parts.
        transfer: Data of the students; ``System.prepare`` may replace it.
    """

    teacher_order: ClassVar[tuple[str, ...] | None] = ("order", "teacher")
    student_order: ClassVar[tuple[str, ...] | None] = ("order", "student")
    validation: Split

    def __init__(self, seed: int, recipe: R) -> None:
        self.seed, self.recipe = seed, recipe
        self.train, self.test = self.splits()
        self.transfer = self.train

    def splits(self) -> tuple[Split, Split]:
        """Return training and test data; by default the digits as rows of 64 pixels.

        Raises:
            NotImplementedError: The recipe has no shares of the digits, and the cell does not override this method.
        """
        if not isinstance(self.recipe, Recipe):
            kind = type(self.recipe).__name__
            raise NotImplementedError(f"{kind} is not a Recipe with shares of the digits: define splits in the cell")
        train, *between, test = digits_rows(self.seed, self.recipe.shares)
        if between:
            self.validation = between[0]
        return train, test

    def build(self, role: str, fit: Fit) -> Any:
        """Return a network of a role with the widths of ``fit``; by default a multilayer perceptron on the digits."""
        return MLP((PIXELS,), fit.hidden, classes=CLASSES)

    def network(self, role: str, fit: Fit, *key: str | int) -> Any:
        """Return a new network; equal roles and keys begin with equal weights."""
        return seeded(lambda: self.build(role, fit), self.seed, *(key or (role,)))

    def order(self, key: tuple[str | int, ...] | None) -> int:
        """Return the seed of a purpose; None is the cell's own."""
        return self.seed if key is None else integer_seed(self.seed, *key)

    def on_labels(self, network: Any, batch: Batch, epoch: int) -> Tensor:
        """Return the loss of the labels, by which the teacher is trained; by default cross-entropy."""
        return cross_entropy(network, batch, epoch)

    @cached_property
    def teacher(self) -> Any:
        """The teacher, trained on the labels of ``train`` and left in eval mode."""
        fit = self.recipe.teacher
        return self.fit(self.network("teacher", fit), self.on_labels, self.train, fit, self.teacher_order)

    @property
    def teacher_inputs(self) -> Tensor:
        """The teacher's inputs for the samples of ``transfer``, in their order; by default those of the students."""
        return self.transfer.x

    @cached_property
    def taught(self) -> tuple[Tensor, Tensor]:
        """The teacher's features and logits for ``transfer``, in its order."""
        with torch.no_grad():
            return self.teacher.features_and_logits(self.teacher_inputs)

    def fit(
        self,
        network: Any,
        loss: StudentLoss,
        data: Any,
        fit: Fit,
        order: tuple[str | int, ...] | None,
        along: Sequence[nn.Module] = (),
    ) -> Any:
        """Train a network, in place, under a loss; it is returned in eval mode."""
        config = fit.config(len(data), self.order(order))
        with torch.enable_grad():  # a teacher may be asked for the first time where gradients are off
            minimize(lambda batch, epoch: loss(network, batch, epoch), [network, *along], data, config)
        return network

    def distil(self, arm: Arm) -> Any:
        """Return a student trained under an arm; all arms share initial weights and batches."""
        fit = self.recipe.student
        student, loss = self.network("student", fit), arm.loss
        if isinstance(loss, Objective):
            return self._fit_objective(student, loss, arm)
        return self.fit(student, loss, self.transfer, fit, self.student_order, arm.along)

    def _fit_objective(self, student: Any, objective: Objective, arm: Arm) -> Any:
        fit, teacher = self.recipe.student, arm.teacher
        if teacher is None and objective.needs_teacher:
            teacher = self.cached_teacher(objective)
        with seeded_torch(self.order(self.student_order), devices=[]):
            objective.build(student, teacher, self.transfer.x[:2], torch.arange(2))
        bound = objective.bind(student, teacher, fit.config(len(self.transfer), 0).epochs)
        along = (*arm.along, objective)
        return self.fit(
            student, lambda _, batch, epoch: bound(batch, epoch), self.transfer, fit, self.student_order, along
        )

    @torch.no_grad()
    def cached_teacher(self, objective: Objective) -> TeacherCache:
        """Return what the teacher says about the samples of ``transfer``, as far as an objective reads it."""
        taps = objective.teacher_taps
        with Taps(taps).attach(self.teacher, detach=True) as seen:
            logits = self.teacher(self.teacher_inputs)
            features = {tap: seen.tensor(tap).numpy() for tap in taps}
        return TeacherCache(logits.numpy(), features, name="the teacher's outputs for the students' samples")


class OwnSeedCell(Cell[R]):
    """A cell in which the teacher's batches follow from the cell's own seed."""

    teacher_order = None
    student_order = ("student order",)


def cross_entropy(network: nn.Module, batch: Batch, epoch: int) -> Tensor:
    """Return the cross-entropy of a network's logits with the labels."""
    return F.cross_entropy(network(batch.x), batch.targets)


def plain_kd(teacher: nn.Module | Tensor, recipe: DistillationRecipe) -> StudentLoss:
    """Return the loss ``ce_weight * CE + kd_weight * T**2 KL(teacher || student)`` with the recipe's numbers.

    Args:
        teacher: The teacher, or its logits ``(N, C)`` for the training samples in their order.
        recipe: Temperature and weights.
    """

    def loss(student: nn.Module, batch: Batch, epoch: int) -> Tensor:
        options = {"temperature": recipe.temperature, "kd_weight": recipe.kd_weight, "ce_weight": recipe.ce_weight}
        return distillation(student, teacher, **options)(batch, epoch)

    return loss


class System(ABC, Generic[C]):
    """One distillation method and its experiment.

    Attributes:
        name: The system's name; that of its module for systems in this package.
        title: The method in a few words.
        paper: Authors, venue, year, arXiv number.
        claim: A whole sentence that the experiment tests.
        claims: The comparisons that decide it; at least one is required.
        gates: Gates of the required claims, planned by ``policykd.kd.experiments.power``; empty keeps the claims' own.
        notes: What the output must state in words: departures, and what this small setting cannot show.
        recipe: The default configuration.
        cell: Class of the cells.
        with_teacher: Whether the teacher is trained and reported as an arm.
        seeds: Number of seeds that the verdict is meant for.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    claim: ClassVar[str]
    claims: ClassVar[tuple[Comparison, ...]]
    gates: ClassVar[tuple[float, ...]] = ()
    notes: ClassVar[tuple[str, ...]] = ()
    recipe: C
    cell: ClassVar[type[Cell[Any]]] = Cell
    with_teacher: ClassVar[bool] = True
    seeds: ClassVar[int] = 10

    def prepare(self, cell: Any) -> None:
        """Set ``cell.transfer`` and what the arms share; called once per cell, before anything is trained."""

    def arms(self, cell: Any) -> Mapping[str, Arm]:
        """Return every arm by name.

        Raises:
            NotImplementedError: The system overrides neither ``arms`` nor ``run``.
        """
        raise NotImplementedError(f"system {self.name} must define arms or run")

    def measure(self, cell: Any, network: Any) -> dict[str, float]:
        """Return the metrics of a trained network, without gradients; by default its accuracy on the test data."""
        return {"accuracy": accuracy(network(cell.test.x), cell.test.y)}

    def other_arms(self, cell: Any) -> Metrics:
        """Return arms that are not trained students, such as samplers, without gradients; by default none."""
        return {}

    def run(self, seed: int, recipe: C) -> Metrics:
        """Run one paired cell: the teacher and every arm.

        Returns:
            Arm -> metric -> finite value.
        """
        cell = self.cell(seed, recipe)
        self.prepare(cell)
        found = {"teacher": self._measured(cell, cell.teacher)} if self.with_teacher else {}
        found |= {name: self._measured(cell, cell.distil(arm), arm) for name, arm in self.arms(cell).items()}
        with torch.no_grad():
            return found | dict(self.other_arms(cell))

    @torch.no_grad()
    def _measured(self, cell: Any, network: Any, arm: Arm | None = None) -> dict[str, float]:
        own = arm.figures(network) if arm is not None and arm.figures is not None else {}
        return self.measure(cell, network) | dict(own)

    def experiment(self) -> Experiment:
        """Return the record that the runner takes."""
        return Experiment(
            name=self.name,
            title=self.title,
            paper=self.paper,
            claim=self.claim,
            config=self.recipe,
            run=self.run,
            comparisons=with_gates(self.claims, self.gates),
            notes=self.notes,
            seeds=self.seeds,
        )


def higher(metric: str, arm: str, than: str | None = None, *, by: float = 0.0, **options: Any) -> Comparison:
    """Return the claim that an arm's metric exceeds another arm's by more than ``by``; add its sentence with ``says``.

    Args:
        metric: The metric.
        arm: The arm that the claim is about.
        than: The arm that it is compared with; None compares the value itself with ``by``.
        by: The gate: of the difference, of the ratio with ``statistic="ratio"``, or of the value without ``than``.
        **options: ``required`` and ``statistic`` of :class:`Comparison`.
    """
    return Comparison(metric, student=arm, baseline=than, better="higher", gate=by, **options)


def lower(metric: str, arm: str, than: str | None = None, *, by: float = 0.0, **options: Any) -> Comparison:
    """Return the claim that an arm's metric is below another arm's by more than ``-by``; see :func:`higher`."""
    return Comparison(metric, student=arm, baseline=than, better="lower", gate=by, **options)
