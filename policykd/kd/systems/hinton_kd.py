"""Distillation from softened class probabilities, and when its teacher should stop early.

Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (NIPS 2014 workshop, arXiv 1503.02531); Cho and
Hariharan, On the Efficacy of Knowledge Distillation (ICCV 2019, arXiv 1910.01348). The loss is
``ce_weight CE + kd_weight T**2 KL(softmax(v / T) || softmax(z / T))``, section 2 of the first paper. This module has
the procedures around it: teachers from a shortened schedule, and a student that drops the teacher half-way (ESKD). The
bias of classes that the transfer set lacks is in ``policykd.kd.class_bias``, ensembles as teachers are in
``policykd.kd.ensembles``: the first paper's arithmetic mean is the softening ``softened``, the geometric ``logits``.

Departures: the specialists of the first paper's section 5 are left out. One converged teacher serves all three parts
of the experiment. A fifth of the held-out half is validation data, which chooses the bias and, for every seed, the
early-stopped teacher by its student's accuracy; nothing is chosen on test data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

from torch import Tensor, nn
from typing_extensions import override

from policykd.divergences import check_temperature
from policykd.errors import ConfigError, check_range
from policykd.kd.class_bias import tune_bias
from policykd.kd.experiments.digits import some, some_per_class
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.system import (
    Cell,
    Fit,
    Recipe,
    StudentLoss,
    System,
    cross_entropy,
    higher,
    lower,
    plain_kd,
)
from policykd.kd.metrics import accuracy, recall
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.evaluate import predict
from policykd.kd.training.loop import train_classifier
from policykd.plain import Limits


def shortened(config: TrainConfig, epochs: int) -> TrainConfig:
    """Return the same schedule in fewer epochs, for an early-stopped teacher: drops of the learning rate move, too.

    Args:
        config: The whole schedule.
        epochs: The new length. An early checkpoint of the long run is different: its learning rate is still high.

    Raises:
        ValueError: ``epochs`` is below 1.
    """
    share = epochs / config.epochs
    milestones = tuple(milestone * share for milestone in config.scheduler.milestones)
    scheduler = replace(config.scheduler, milestones=milestones, warmup=config.scheduler.warmup * share)
    return replace(config, epochs=epochs, scheduler=scheduler)


def early_stopped(loss: StudentLoss, stop_epoch: int) -> StudentLoss:
    """Return a loss that turns into plain cross-entropy at an epoch (ESKD); the teacher is not called after that.

    It is one loss for one run, so neither the optimizer's state nor the learning rate is reset.

    Args:
        loss: The loss of the epochs before, such as :func:`policykd.kd.experiments.system.plain_kd`.
        stop_epoch: First epoch without the teacher, counted from 0.
    """

    def switched(student: nn.Module, batch: Batch, epoch: int) -> Tensor:
        return (loss if epoch < stop_epoch else cross_entropy)(student, batch, epoch)

    return switched


@dataclass(frozen=True)
class HintonKDRecipe(Recipe):
    """One teacher for three parts: few labels, a missing class, and early-stopped teachers.

    Students have a learning rate that is high enough to converge within their epochs.

    Attributes:
        teacher: Widths and training of the converged teacher.
        student: Widths and training of the students of early-stopped and converged teachers.
        few_labels_student: Widths and training of the students with few labels.
        missing_class_student: Widths and training of the students that lack a class.
        early_epochs: Epochs of the early-stopped teachers, among which validation data choose.
        few_per_class: Labels per class in the part with few labels.
        missing_class: The class that the transfer set lacks.
        missing_temperature: T in that part, where labels are not used.
        efficacy_samples: Training samples of the students of early-stopped and converged teachers.
        eskd_epochs: Epochs with the teacher of the student that drops it.
    """

    teacher: Fit = Fit((128, 128), epochs=120)
    student: Fit = Fit((16,), epochs=100, lr=1e-2)
    parts = ("training", "validation", "testing")
    shares: tuple[float, ...] = (0.5, 0.1, 0.4)
    few_labels_student: Fit = Fit((32,), epochs=200, lr=1e-2)
    missing_class_student: Fit = Fit((32,), epochs=40, lr=1e-2)
    early_epochs: tuple[int, ...] = (3, 10, 30)
    few_per_class: int = 4
    missing_class: Annotated[int, Limits(0, 9)] = 3
    missing_temperature: float = 8.0
    efficacy_samples: int = 150
    eskd_epochs: int = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        check_temperature(self.missing_temperature)
        if not self.early_epochs:
            raise ConfigError("early_epochs names no length; give at least one, such as (10,)")
        for epochs in self.early_epochs:
            check_range("early_epochs", epochs, 1, self.teacher.epochs - 1)


class HintonKDCell(Cell[HintonKDRecipe]):
    """One seed; students of one part share initial weights and batches."""

    @cached_property
    def teachers(self) -> dict[int, nn.Module]:
        """Teachers by the length of their schedule, from the same initial weights."""
        fit = self.recipe.teacher
        whole = fit.config(len(self.train), self.order(self.teacher_order))
        return {
            epochs: train_classifier(self.network("teacher", fit), self.train, shortened(whole, epochs))
            for epochs in (*self.recipe.early_epochs, fit.epochs)
        }

    @property
    def converged(self) -> nn.Module:
        """The teacher of the whole schedule."""
        return self.teachers[self.recipe.teacher.epochs]

    def trained(self, part: str, fit: Fit, loss: StudentLoss, data: Split) -> nn.Module:
        """Return a student of a part, trained under a loss."""
        return self.fit(self.network(part, fit), loss, data, fit, ("order", part))

    def soft(self, teacher: nn.Module, data: Split) -> StudentLoss:
        """Return the loss of plain distillation, with the teacher's logits computed once."""
        return plain_kd(predict(teacher, data)[0], self.recipe)

    def measured(self, network: nn.Module) -> dict[str, float]:
        """Return the test accuracy of a network as a metric."""
        return {"accuracy": accuracy(*predict(network, self.test))}

    def few_labels(self) -> Metrics:
        """Train students on few labels, with and without the teacher."""
        fit, few = self.recipe.few_labels_student, some_per_class(self.train, self.recipe.few_per_class, self.seed)
        losses = {"CE": cross_entropy, "KD": self.soft(self.converged, few)}
        return {
            f"few labels, {arm}": self.measured(self.trained("few labels", fit, loss, few))
            for arm, loss in losses.items()
        }

    def without_class(self) -> Metrics:
        """Train students on a transfer set that lacks a class; validation data choose the bias of one of them."""
        recipe, missing = self.recipe, self.recipe.missing_class
        transfer = self.train.take((self.train.y != missing).nonzero()[:, 0])
        weights = replace(recipe, temperature=recipe.missing_temperature, kd_weight=1.0, ce_weight=0.0)
        losses = {"CE": cross_entropy, "KD": plain_kd(predict(self.converged, transfer)[0], weights)}
        students = {
            arm: self.trained("missing class", recipe.missing_class_student, loss, transfer)
            for arm, loss in losses.items()
        }
        logits = {arm: predict(student, self.test)[0] for arm, student in students.items()}
        logits["KD, bias"] = logits["KD"] + tune_bias(*predict(students["KD"], self.validation), [missing])
        y = self.test.y
        return {
            f"missing class, {arm}": {"accuracy": accuracy(values, y), "recall": recall(values, y, missing)}
            for arm, values in logits.items()
        }

    def efficacy(self) -> Metrics:
        """Train students of early-stopped and converged teachers, of labels alone, and one that drops the teacher."""
        recipe, subset = self.recipe, some(self.train, self.recipe.efficacy_samples, self.seed)

        def student(loss: StudentLoss) -> nn.Module:
            return self.trained("efficacy", recipe.student, loss, subset)

        students = {epochs: student(self.soft(teacher, subset)) for epochs, teacher in self.teachers.items()}
        chosen = max(recipe.early_epochs, key=lambda epochs: accuracy(*predict(students[epochs], self.validation)))
        named = {f"{epochs}-epoch": epochs for epochs in recipe.early_epochs}
        named |= {"early-stopped": chosen, "converged": recipe.teacher.epochs}
        eskd = early_stopped(plain_kd(self.converged, recipe), recipe.eskd_epochs)
        return {
            **{f"{name} teacher": self.measured(self.teachers[epochs]) for name, epochs in named.items()},
            **{f"student, {name} teacher": self.measured(students[epochs]) for name, epochs in named.items()},
            "student, CE": self.measured(student(cross_entropy)),
            "student, ESKD": self.measured(student(eskd)),
        }


_BLIND = "that never saw a class"


class HintonKD(System[HintonKDRecipe]):
    """Three parts: students with few labels, students that lack a class, and students of early-stopped teachers."""

    name = "hinton_kd"
    title = "Knowledge distillation with softened probabilities; early-stopped teachers"
    paper = (
        "Hinton, Vinyals, Dean, NIPS DL workshop 2014, arXiv 1503.02531; Cho, Hariharan, ICCV 2019, arXiv 1910.01348"
    )
    claim = "Soft targets teach what few or missing labels cannot, and the best teacher is not the most accurate one."
    claims = (
        higher("accuracy", "few labels, KD", "few labels, CE").says(
            "With 4 labels per class, distillation is more accurate than cross-entropy."
        ),
        *(
            claimed("recall", f"missing class, {arm}").says(f"{student} {text}.")
            for claimed, arm, student, text in (
                (higher, "KD", f"A distilled student {_BLIND}", "recognizes it"),
                (
                    higher,
                    "KD, bias",
                    f"A distilled student {_BLIND}, with a bias chosen on validation data,",
                    "recognizes it",
                ),
                (lower, "CE", f"A student trained on hard labels {_BLIND}", "recognizes less than 1 % of it"),
            )
        ),
        higher("accuracy", "converged teacher", "early-stopped teacher").says(
            "The converged teacher is more accurate than the early-stopped teacher."
        ),
        higher("accuracy", "student, early-stopped teacher", "student, converged teacher").says(
            "The early-stopped teacher's student is more accurate than the converged teacher's."
        ),
        higher("accuracy", "student, ESKD", "student, converged teacher", required=False).says(
            "A student that drops the converged teacher half-way (ESKD) is more accurate than one that keeps it."
        ),
    )
    gates = (0.031, 0.79, 0.84, 0.01, 0.0, 0.0)
    notes = (
        "ESKD is included because the tests check its switch; in networks this small it is not expected to help.",
        "The papers' ImageNet and speech results are out of reach of this setting and are not claimed.",
    )
    recipe = HintonKDRecipe()

    @override
    def run(self, seed: int, recipe: HintonKDRecipe) -> Metrics:
        cell = HintonKDCell(seed, recipe)
        return {**cell.few_labels(), **cell.without_class(), **cell.efficacy()}


EXPERIMENT = HintonKD().experiment()
