"""Confidence-aware multi-teacher distillation: teachers are weighted for every sample by how well they know its label.

Zhang, Chen and Wang, Confidence-Aware Multi-Teacher Knowledge Distillation (ICASSP 2022, arXiv 2201.00007). The
weights, the losses and the departures from the paper are in ``policykd.kd.losses.multi_teacher_kd``. One teacher of the
experiment is good and two are sure and wrong on half of the classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from policykd.kd.experiments.digits import CLASSES, some
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.system import Arm, Cell, Fit, Recipe, System, cross_entropy, higher, lower
from policykd.kd.losses.multi_teacher_kd import (
    Weighting,
    entropy_weights,
    equal_weights,
    label_confidence,
    multi_teacher_kd,
)
from policykd.kd.metrics import accuracy, nll
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.evaluate import predict


@dataclass(frozen=True)
class CAMKDRecipe(Recipe):
    """Three teachers of equal size and students on a part of the training data.

    Attributes:
        ce_weight: Weight of the labels' cross-entropy, gamma in the paper.
        kd_weight: Weight of the teachers' term, alpha in the paper.
        transfer: Training samples of the students.
    """

    teacher: Fit = Fit((64,), epochs=40, lr=5e-3)
    student: Fit = Fit((24,), epochs=100, lr=5e-3)
    shares: tuple[float, ...] = (0.5, 0.5)
    ce_weight: float = 1.0
    kd_weight: float = 1.0
    transfer: int = 300


HALF = CLASSES // 2
WEIGHTINGS: dict[str, Weighting] = {"average": equal_weights, "entropy": entropy_weights, "CA-MKD": label_confidence}


def shifted(labels: Tensor, first: int, count: int) -> Tensor:
    """Return labels in which the classes ``first`` to ``first + count - 1`` are cyclically renamed."""
    inside = (labels >= first) & (labels < first + count)
    return torch.where(inside, first + (labels - first + 1) % count, labels)


def weighted(taught: Tensor, weights: Tensor, recipe: CAMKDRecipe) -> Arm:
    """Return cross-entropy plus the teachers' term, with teachers and weights looked up by sample index.

    Args:
        taught: The teachers' logits for the students' samples ``(K, N, C)``.
        weights: Their weights ``(K, N)``.
        recipe: Temperature and weights of the terms.
    """

    def loss(student: nn.Module, batch: Batch, epoch: int) -> Tensor:
        logits = student(batch.x)
        rows = batch.index
        soft = multi_teacher_kd(logits, taught[:, rows], weights[:, rows], temperature=recipe.temperature)
        return recipe.ce_weight * F.cross_entropy(logits, batch.targets) + recipe.kd_weight * soft

    return Arm(loss)


class CAMKDCell(Cell[CAMKDRecipe]):
    """One seed with three teachers."""

    def teachers(self) -> list[nn.Module]:
        """Return the teacher of the right labels and those that have either half of the classes wrong."""
        fit, y = self.recipe.teacher, self.train.y
        return [
            self.fit(
                self.network("teacher", fit, "teacher", number),
                cross_entropy,
                Split(self.train.x, labels),
                fit,
                ("order", "teacher", number),
            )
            for number, labels in enumerate((y, shifted(y, HALF, HALF), shifted(y, 0, HALF)))
        ]


_LABELS, _BEST = "labels alone", "best teacher alone"


class CAMKD(System[CAMKDRecipe]):
    """One student per weighting of the same three teachers, one of the labels, and one of the best teacher."""

    name = "ca_mkd"
    title = "Confidence-aware multi-teacher distillation"
    paper = "Zhang, Chen, Wang, ICASSP 2022, arXiv 2201.00007"
    claim = (
        "Weighting teachers by their confidence in the label protects a student from teachers that are sure and wrong."
    )
    claims = (
        *(
            higher("accuracy", "CA-MKD", baseline).says(
                f"A student with CA-MKD's weights is more accurate than {words}."
            )
            for baseline, words in (
                ("average", "one with equal weights"),
                ("entropy", "one with weights from entropies"),
                (_LABELS, "one without teachers"),
            )
        ),
        higher("accuracy", "CA-MKD", _BEST, required=False).says(
            "It is more accurate than a student of the single teacher that is most accurate on the student's data."
        ),
        lower("wrong_class_weight", "CA-MKD", by=0.05, required=False).says(
            "The third teacher's CA-MKD weight on the classes that it has wrong is below 0.05."
        ),
        lower("nll", "CA-MKD", "average", required=False).says(
            "A student with CA-MKD's weights has a lower negative log-likelihood than one with equal weights."
        ),
    )
    gates = (0.036, 0.039, 0.0)
    notes = (
        "The gain needs teachers that are sure and wrong; with a teacher that is merely noisy the weightings tie.",
        "The feature term is not part of this experiment.",
        "The best teacher is chosen by its accuracy on the students' labeled data, which any user can do.",
    )
    recipe = CAMKDRecipe()
    cell = CAMKDCell

    @override
    def run(self, seed: int, recipe: CAMKDRecipe) -> Metrics:
        cell = self.cell(seed, recipe)
        teachers = cell.teachers()
        cell.transfer = some(cell.train, recipe.transfer, seed)
        taught = torch.stack([predict(teacher, cell.transfer)[0] for teacher in teachers])
        found = {f"teacher {number}": self.measure(cell, teacher) for number, teacher in enumerate(teachers, start=1)}
        for arm, weighting in WEIGHTINGS.items():
            weights = weighting(taught, cell.transfer.y)
            logits, labels = predict(cell.distil(weighted(taught, weights, recipe)), cell.test)
            found[arm] = {
                "accuracy": accuracy(logits, labels),
                "nll": nll(logits, labels),
                "wrong_class_weight": float(weights[2, cell.transfer.y < HALF].mean()),
            }
        right = (taught.argmax(2) == cell.transfer.y).double().mean(1)
        alone = weighted(taught[right.argmax()][None], torch.ones(1, len(cell.transfer)), recipe)
        trivial = {_LABELS: Arm(cross_entropy), _BEST: alone}
        return found | {name: self.measure(cell, cell.distil(arm)) for name, arm in trivial.items()}


EXPERIMENT = CAMKD().experiment()
