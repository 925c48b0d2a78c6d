"""Which teacher to distil from: similarity information in its answers, over batch size and epochs.

Vats and Crandall, Controlling the Quality of Distillation in Response-Based Network Compression (AAAI-22 workshop,
arXiv 2112.10047). A teacher that was trained for long puts all probability on one class and no longer says which wrong
classes are alike. The loss stays as it is; the teacher is chosen by its batch size and number of epochs. The pieces are
in ``policykd.kd.systems.sweet_spot_teacher.similarity_information``.

Departures: only the abstract was readable. The measures of similarity information, the search and the diagnostic are
our construction.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.errors import ConfigError, check_range
from policykd.kd.experiments.digits import CLASSES, PIXELS, digits_rows, some
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.metrics import accuracy, nll
from policykd.kd.networks import MLP
from policykd.kd.systems.sweet_spot_teacher.similarity_information import (
    class_mean_answers,
    permuted_non_targets,
    response_entropy,
    similarity_information,
    smoothed_labels,
    sweet_spot,
)
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.evaluate import predict
from policykd.kd.training.loop import minimize, seeded
from policykd.kd.training.stacked import distil_side_by_side
from policykd.seeding import integer_seed

Side = Literal["higher", "lower"]
_NO_TEACHER = "labels only"


@dataclass(frozen=True)
class SweetSpotTeacherConfig:
    """Digits; one teacher per batch size and number of epochs, a small student on few images from each.

    Attributes:
        validation_share: share of the digits on which teachers are chosen.
        test_share: share for testing; the rest trains the teachers.
        transfer: training images that the students see.
        teacher_hidden: hidden widths of the teachers.
        student_hidden: hidden width of the students.
        batch_sizes: batch sizes of the teachers, ascending.
        epochs: epochs at which a teacher is taken from each run at a constant learning rate, ascending.
        temperature: T of the distillation and of all measures.
        kd_weight: weight of the divergence; the labels get the rest.
        student_epochs: epochs of the students.
        student_batch_size: their samples per step.
        lr: learning rate of Adam.
        tolerance: accuracy that the choice without students may give up.
    """

    validation_share: float = 0.2
    test_share: float = 0.3
    transfer: int = 150
    teacher_hidden: tuple[int, ...] = (128, 128)
    student_hidden: int = 16
    batch_sizes: tuple[int, ...] = (16, 64, 256)
    epochs: tuple[int, ...] = (3, 10, 30, 120)
    temperature: float = 4.0
    kd_weight: float = 0.9
    student_epochs: int = 200
    student_batch_size: int = 64
    lr: float = 2e-3
    tolerance: float = 0.015

    def __post_init__(self) -> None:
        for name in ("batch_sizes", "epochs"):
            values = getattr(self, name)
            if len(values) < 2 or list(values) != sorted(set(values)):
                raise ConfigError(f"{name} must be at least two ascending numbers, got {values}")
        check_range("kd_weight", self.kd_weight, 0, 1)

    def training(self, epochs: int, batch_size: int, seed: int) -> TrainConfig:
        """How networks are trained."""
        optimizer = OptimizerConfig("adam", lr=self.lr, weight_decay=0.0)
        return TrainConfig(epochs=epochs, batch_size=batch_size, seed=seed, optimizer=optimizer)


@dataclass(frozen=True)
class _Teacher:
    """A teacher of the grid: what it answers on the transfer images, and its measures."""

    answers: Tensor
    accuracy: float
    test_accuracy: float
    validation_nll: float
    entropy: float
    information: float
    updates: int


def run(seed: int, config: SweetSpotTeacherConfig) -> Cell:
    """Train the grid of teachers, one student from each, and the diagnostic students of the best one."""
    shares = (1 - config.validation_share - config.test_share, config.validation_share, config.test_share)
    train, validation, test = digits_rows(seed, shares)
    transfer = some(train, config.transfer, seed)
    grid = {
        (size, epochs): teacher
        for size in config.batch_sizes
        for epochs, teacher in _teachers(seed, config, size, (train, validation, test, transfer)).items()
    }
    answers = {f"batch {size}, {epochs} epochs": teacher.answers for (size, epochs), teacher in grid.items()}
    students = _students(seed, config, answers | {_NO_TEACHER: transfer.x.new_zeros(len(transfer), CLASSES)}, transfer)
    figures = {arm: {"accuracy": accuracy(*predict(own, test))} for arm, own in students.items()}
    for arm, teacher in zip(answers, grid.values(), strict=True):
        figures[arm] |= _measures(teacher)
    chosen = _choices(config, dict(zip(answers, grid.values(), strict=True)), students, validation)
    best = answers[chosen["sweet spot"]]
    diagnostics = _students(seed, config, _diagnostics(seed, config, best, transfer), transfer)
    return {
        **{arm: figures[source] for arm, source in chosen.items()},
        **{arm: {"accuracy": accuracy(*predict(own, test))} for arm, own in diagnostics.items()},
        "grid": _monotonicity(config, grid),
        **figures,
    }


def _teachers(
    seed: int, config: SweetSpotTeacherConfig, batch_size: int, parts: tuple[Split, Split, Split, Split]
) -> dict[int, _Teacher]:
    """Epochs -> the teacher of one run after them; all runs start from the same weights."""
    train, validation, test, transfer = parts
    network = seeded(partial(_network, config.teacher_hidden), seed, "teacher")
    kept: dict[int, nn.Module] = {}

    def loss(batch: Batch, epoch: int) -> Tensor:
        if epoch in config.epochs and epoch not in kept:  # so many epochs are done when this one begins
            kept[epoch] = copy.deepcopy(network)
        return F.cross_entropy(network(batch.x), batch.targets)

    minimize(loss, network, train, config.training(max(config.epochs), batch_size, seed))
    kept[max(config.epochs)] = network
    steps = -(-len(train) // batch_size)
    taken = {}
    for epochs, module in kept.items():
        answers, (logits, labels) = predict(module, transfer)[0], predict(module, validation)
        taken[epochs] = _Teacher(
            answers,
            accuracy(logits, labels),
            accuracy(*predict(module, test)),
            nll(logits, labels),
            float(response_entropy(answers, temperature=config.temperature)),
            float(similarity_information(answers, transfer.y, temperature=config.temperature)),
            epochs * steps,
        )
    return taken


def _network(hidden: tuple[int, ...]) -> nn.Module:
    return MLP((PIXELS,), hidden, classes=CLASSES)


def _students(
    seed: int, config: SweetSpotTeacherConfig, answers: Mapping[str, Tensor], transfer: Split
) -> dict[str, nn.Module]:
    """One student per arm, each from its teacher's answers ``(N, C)`` on the transfer images."""
    students = {arm: seeded(partial(_network, (config.student_hidden,)), seed, "student") for arm in answers}
    distil_side_by_side(
        list(students.values()),
        torch.stack(list(answers.values())),
        transfer,
        config.training(config.student_epochs, config.student_batch_size, seed),
        temperature=config.temperature,
        kd_weights=[0.0 if arm == _NO_TEACHER else config.kd_weight for arm in answers],
    )
    return students


def _choices(
    config: SweetSpotTeacherConfig,
    teachers: Mapping[str, _Teacher],
    students: Mapping[str, nn.Module],
    validation: Split,
) -> dict[str, str]:
    """Way of choosing -> the arm it chooses, on validation data; a lower likelihood loss breaks ties."""
    arms = list(teachers)

    def of_student(arm: str) -> tuple[float, float]:
        logits, labels = predict(students[arm], validation)
        return accuracy(logits, labels), -nll(logits, labels)

    proxy = sweet_spot(
        [teacher.accuracy for teacher in teachers.values()],
        [teacher.information for teacher in teachers.values()],
        tolerance=config.tolerance,
    )
    return {
        "sweet spot": max(arms, key=of_student),
        "most accurate teacher": max(arms, key=lambda arm: (teachers[arm].accuracy, -teachers[arm].validation_nll)),
        "choice without students": arms[proxy],
        "least trained": min(arms, key=lambda arm: teachers[arm].updates),
        "longest trained": max(arms, key=lambda arm: teachers[arm].updates),
    }


def _diagnostics(seed: int, config: SweetSpotTeacherConfig, answers: Tensor, transfer: Split) -> dict[str, Tensor]:
    """Teachers that keep one property of the sweet spot's answers each."""
    draw = torch.Generator().manual_seed(integer_seed(seed, "sweet_spot_teacher", "shuffle"))
    t = config.temperature
    return {
        "shuffled wrong classes": permuted_non_targets(answers, transfer.y, temperature=t, generator=draw),
        "smoothed labels": smoothed_labels(answers, transfer.y, temperature=t),
        "class means": class_mean_answers(answers, transfer.y, temperature=t),
    }


def _measures(teacher: _Teacher) -> dict[str, float]:
    return {
        "teacher accuracy": teacher.test_accuracy,
        "entropy": teacher.entropy,
        "similarity information": teacher.information,
        "updates": float(teacher.updates),
    }


def _monotonicity(config: SweetSpotTeacherConfig, grid: Mapping[tuple[int, int], _Teacher]) -> dict[str, float]:
    """The worst steps of the measures along epochs (they should fall) and along batch sizes (they should rise)."""
    figures = {}
    for name in ("entropy", "information"):
        table = torch.tensor([[getattr(grid[b, e], name) for e in config.epochs] for b in config.batch_sizes])
        figures[f"greatest rise of {name} over epochs"] = float(table.diff(dim=1).max())
        figures[f"least rise of {name} over batch sizes"] = float(table.diff(dim=0).min())
    return figures


def _beats(
    student: str, baseline: str, text: str, *, gate: float = 0.0, better: Side = "higher", required: bool = True
) -> Comparison:
    return Comparison(
        "accuracy", student=student, baseline=baseline, better=better, gate=gate, required=required, text=text
    )


def _grid(metric: str, better: Side, text: str) -> Comparison:
    return Comparison(metric, student="grid", better=better, text=text)


EXPERIMENT = Experiment(
    name="sweet_spot_teacher",
    title="The sweet spot of a teacher's batch size and epochs",
    paper="Vats and Crandall, Controlling the Quality of Distillation in Response-Based Network Compression, "
    "AAAI-22 workshop, arXiv 2112.10047",
    claim="long training takes similarity information out of a teacher's answers; the best teacher is neither the most "
    "accurate nor the longest trained one, and what it adds is knowledge of similar classes",
    config=SweetSpotTeacherConfig(),
    run=run,
    comparisons=(
        _grid("greatest rise of entropy over epochs", "lower", "entropy falls along epochs at every batch size"),
        _grid("greatest rise of information over epochs", "lower", "so does similarity information"),
        _grid("least rise of entropy over batch sizes", "higher", "entropy rises with batch size at every epoch"),
        _grid("least rise of information over batch sizes", "higher", "so does similarity information"),
        _beats("sweet spot", "least trained", "the best student's teacher is not the least trained one"),
        _beats("sweet spot", "longest trained", "nor the longest trained one"),
        Comparison(
            "teacher accuracy",
            student="sweet spot",
            baseline="most accurate teacher",
            better="lower",
            gate=-0.005,
            text="the best student's teacher is more than 0.5 points less accurate than the best",
        ),
        _beats(
            "most accurate teacher",
            "sweet spot",
            "the most accurate teacher's student is more than 2 points below the best",
            gate=-0.02,
            better="lower",
        ),
        _beats("most accurate teacher", _NO_TEACHER, "and below a student without teacher", better="lower"),
        _beats("shuffled wrong classes", "sweet spot", "without class similarity the student is worse", better="lower"),
        _beats("smoothed labels", "sweet spot", "label smoothing is worse", better="lower", required=False),
        _beats("class means", "sweet spot", "class-level similarity alone is worse", better="lower", required=False),
        _beats(
            "choice without students",
            "most accurate teacher",
            "the choice by similarity information beats the choice by accuracy",
            required=False,
        ),
    ),
    notes=(
        "Measures, search and diagnostic are our construction; the paper's text was not readable.",
        "Teachers are chosen on validation data, students compared on test data. With twelve teachers and few "
        "validation images the choice is noisy.",
        "A larger batch means fewer updates per epoch; the arms list updates.",
    ),
)
