"""Which teacher to distil from: similarity information in its logits, over batch size and epochs.

Vats and Crandall, Controlling the Quality of Distillation in Response-Based Network Compression (AAAI-22 workshop,
arXiv 2112.10047). A teacher that was trained for long puts all probability on one class and no longer says which wrong
classes are alike. The loss stays as it is; the teacher is chosen by its batch size and number of epochs. The measures
are in ``policykd.kd.similarity_information``.

Departures: only the abstract was readable. The measures of similarity information, the search and the diagnostic are
our construction.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from typing_extensions import override

from policykd.errors import ConfigError
from policykd.kd.experiments.digits import CLASSES, some
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Share
from policykd.kd.experiments.side_by_side import NO_TEACHER, SideBySideCell, SideBySideRecipe
from policykd.kd.experiments.system import Fit, System, cross_entropy, higher, lower
from policykd.kd.metrics import accuracy, nll
from policykd.kd.similarity_information import (
    class_mean_answers,
    permuted_non_targets,
    response_entropy,
    similarity_information,
    smoothed_labels,
    sweet_spot,
)
from policykd.kd.training.batches import Batch
from policykd.kd.training.evaluate import predict
from policykd.seeding import integer_seed


@dataclass(frozen=True)
class SweetSpotTeacherRecipe(SideBySideRecipe):
    """One teacher per batch size and number of epochs, and a small student of each on few images.

    Attributes:
        teacher: Widths and training of the teacher with the smallest batches and most epochs.
        larger_batches: Batch sizes of the other teachers, ascending.
        early_epochs: Epochs after which further teachers are taken from each run, ascending.
        transfer: Training images that the students see.
        tolerance: Accuracy that the choice without students may give up.
    """

    teacher: Fit = Fit((128, 128), epochs=120, batch_size=16)
    student: Fit = Fit((16,), epochs=200)
    parts = ("training", "validation", "testing")
    shares: tuple[float, ...] = (0.5, 0.2, 0.3)
    larger_batches: tuple[int, ...] = (64, 256)
    early_epochs: tuple[int, ...] = (3, 10, 30)
    transfer: int = 150
    tolerance: Share = 0.015

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, values in (("larger_batches", self.batch_sizes), ("early_epochs", self.epochs)):
            if len(values) < 2 or list(values) != sorted(set(values)) or values[0] < 1:
                raise ConfigError(f"{name} must give a grid of at least two ascending numbers above 0, got {values}")

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Batch sizes of the grid, ascending."""
        return (self.teacher.batch_size, *self.larger_batches)

    @property
    def epochs(self) -> tuple[int, ...]:
        """Epochs of the grid, ascending."""
        return (*self.early_epochs, self.teacher.epochs)


@dataclass(frozen=True)
class GridTeacher:
    """A teacher of the grid.

    Attributes:
        answers: Its logits for the transfer images ``(N, C)``.
        validation: Its accuracy and negated negative log-likelihood on validation data: higher is better.
        metrics: Metrics of its arm.
    """

    answers: Tensor
    validation: tuple[float, float]
    metrics: dict[str, float]


class SweetSpotCell(SideBySideCell[SweetSpotTeacherRecipe]):
    """One seed; teachers are chosen on the validation data."""

    def on_validation(self, network: nn.Module) -> tuple[float, float]:
        """Return accuracy and negated negative log-likelihood on validation data."""
        logits, labels = predict(network, self.validation)
        return accuracy(logits, labels), -nll(logits, labels)

    def teachers(self, batch_size: int) -> dict[int, GridTeacher]:
        """Return epochs -> the teacher of one run after them; all runs start from the same weights."""
        fit = replace(self.recipe.teacher, batch_size=batch_size)
        kept: dict[int, nn.Module] = {}

        def loss(network: nn.Module, batch: Batch, epoch: int) -> Tensor:
            if epoch in self.recipe.early_epochs and epoch not in kept:  # the epochs that are done when this one begins
                kept[epoch] = copy.deepcopy(network)
            return cross_entropy(network, batch, epoch)

        kept[fit.epochs] = self.fit(self.network("teacher", fit), loss, self.train, fit, self.teacher_order)
        samples = len(self.train)
        steps = samples // batch_size if fit.drop_last else -(-samples // batch_size)
        return {epochs: self._grid_teacher(network, epochs * steps) for epochs, network in kept.items()}

    def _grid_teacher(self, network: nn.Module, updates: int) -> GridTeacher:
        answers, labels, temperature = predict(network, self.transfer)[0], self.transfer.y, self.recipe.temperature
        metrics = {
            "teacher accuracy": accuracy(*predict(network, self.test)),
            "entropy": float(response_entropy(answers, temperature=temperature)),
            "similarity information": float(similarity_information(answers, labels, temperature=temperature)),
            "updates": float(updates),
        }
        return GridTeacher(answers, self.on_validation(network), metrics)


def choices(
    cell: SweetSpotCell, teachers: Mapping[str, GridTeacher], students: Mapping[str, nn.Module]
) -> dict[str, str]:
    """Return way of choosing a teacher -> the arm that it chooses on validation data; likelihood breaks ties."""
    arms = list(teachers)
    proxy = sweet_spot(
        [teacher.validation[0] for teacher in teachers.values()],
        [teacher.metrics["similarity information"] for teacher in teachers.values()],
        tolerance=cell.recipe.tolerance,
    )
    return {
        "sweet spot": max(arms, key=lambda arm: cell.on_validation(students[arm])),
        "most accurate teacher": max(arms, key=lambda arm: teachers[arm].validation),
        "choice without students": arms[proxy],
        "least trained": min(arms, key=lambda arm: teachers[arm].metrics["updates"]),
        "longest trained": max(arms, key=lambda arm: teachers[arm].metrics["updates"]),
    }


def diagnostics(cell: SweetSpotCell, answers: Tensor) -> dict[str, Tensor]:
    """Return arm -> a teacher's logits ``(N, C)`` of which one property is kept."""
    draw = torch.Generator().manual_seed(integer_seed(cell.seed, "sweet_spot_teacher", "shuffle"))
    labels, temperature = cell.transfer.y, cell.recipe.temperature
    return {
        "shuffled wrong classes": permuted_non_targets(answers, labels, temperature=temperature, generator=draw),
        "smoothed labels": smoothed_labels(answers, labels, temperature=temperature),
        "class means": class_mean_answers(answers, labels, temperature=temperature),
    }


def monotonicity(table: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the worst steps of measures along epochs (they should fall) and along batch sizes (they should rise).

    Args:
        table: Name of a measure -> its values ``(batch sizes, epochs)``.
    """
    found = {}
    for name, values in table.items():
        found[f"greatest rise of {name} over epochs"] = float(values.diff(dim=1).max())
        found[f"least rise of {name} over batch sizes"] = float(values.diff(dim=0).min())
    return found


_STUDENT = "The student of the sweet spot (the teacher whose student is best on validation data) is"


class SweetSpotTeacher(System[SweetSpotTeacherRecipe]):
    """A grid of teachers with a student each, and students of the best teacher's logits with a property removed."""

    name = "sweet_spot_teacher"
    title = "The sweet spot of a teacher's batch size and epochs"
    paper = (
        "Vats and Crandall, Controlling the Quality of Distillation in Response-Based Network Compression, "
        "AAAI-22 workshop, arXiv 2112.10047"
    )
    claim = (
        "Long training removes similarity information from a teacher's logits; the best teacher is neither the most "
        "accurate nor the longest trained one, and its advantage is knowledge of similar classes."
    )
    claims = (
        *(
            claimed(f"{rise} of {name} over {axis}", "grid").says(f"The teachers' {words} {text}.")
            for claimed, rise, axis, text in (
                (lower, "greatest rise", "epochs", "falls along epochs at every batch size"),
                (higher, "least rise", "batch sizes", "rises with batch size at every number of epochs"),
            )
            for name, words in (("entropy", "entropy"), ("information", "similarity information"))
        ),
        higher("accuracy", "sweet spot", "least trained").says(
            f"{_STUDENT} more accurate than that of the least trained teacher."
        ),
        higher("accuracy", "sweet spot", "longest trained").says(
            f"{_STUDENT} more accurate than that of the longest trained teacher."
        ),
        lower("teacher accuracy", "sweet spot", "most accurate teacher").says(
            "The teacher with the best student is less accurate than the best teacher."
        ),
        lower("accuracy", "most accurate teacher", "sweet spot").says(
            "The most accurate teacher's student is less accurate than the best student."
        ),
        lower("accuracy", "most accurate teacher", NO_TEACHER).says(
            "The most accurate teacher's student is less accurate than a student trained on labels alone."
        ),
        *(
            lower("accuracy", arm, "sweet spot", required=arm == "shuffled wrong classes").says(f"{text}.")
            for arm, text in (
                (
                    "shuffled wrong classes",
                    "A student is less accurate if the best teacher's probabilities of wrong classes are shuffled",
                ),
                ("smoothed labels", "A student of smoothed labels is less accurate than a student of the best teacher"),
                ("class means", "A student of the best teacher's class means is less accurate than one of its logits"),
            )
        ),
        higher("accuracy", "choice without students", "most accurate teacher", required=False).says(
            "The student of the teacher chosen by similarity information is more accurate than that of the "
            "teacher chosen by accuracy."
        ),
    )
    gates = (-0.25, -0.18, 0.12, 0.082, 0.01, 0.019, 0.0, -0.0076, 0.0, 0.0)
    notes = (
        "Measures, search and diagnostic are our construction; the paper's text was not readable.",
        "Teachers are chosen on validation data and students are compared on test data. With twelve teachers and few "
        "validation images the choice is noisy.",
        "A larger batch means fewer updates per epoch; the arms list updates.",
    )
    recipe = SweetSpotTeacherRecipe()

    @override
    def run(self, seed: int, recipe: SweetSpotTeacherRecipe) -> Metrics:
        cell = SweetSpotCell(seed, recipe)
        cell.transfer = some(cell.train, recipe.transfer, seed)
        grid = {size: cell.teachers(size) for size in recipe.batch_sizes}
        teachers = {f"batch {size}, {epochs} epochs": grid[size][epochs] for size in grid for epochs in grid[size]}
        answers = {arm: teacher.answers for arm, teacher in teachers.items()}
        students = cell.students(answers | {NO_TEACHER: cell.transfer.x.new_zeros(len(cell.transfer), CLASSES)})
        found = {arm: self.measure(cell, student) for arm, student in students.items()}
        for arm, teacher in teachers.items():
            found[arm] |= teacher.metrics
        chosen = choices(cell, teachers, students)
        tables = {
            name: torch.tensor([[own.metrics[metric] for own in row.values()] for row in grid.values()])
            for name, metric in (("entropy", "entropy"), ("information", "similarity information"))
        }
        diagnosed = cell.students(diagnostics(cell, answers[chosen["sweet spot"]]))
        return {
            **{way: found[arm] for way, arm in chosen.items()},
            **{arm: self.measure(cell, student) for arm, student in diagnosed.items()},
            "grid": monotonicity(tables),
            **found,
        }


EXPERIMENT = SweetSpotTeacher().experiment()
