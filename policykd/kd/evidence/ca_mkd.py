"""Confidence-aware weights of teachers on CIFAR-10, with the trivial baselines: labels alone, the best teacher.

It describes arms and claims; the library trains them and computes the statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from typing_extensions import override

from policykd.kd.evidence._data import ImageCell, PreparedImages
from policykd.kd.experiments.digits import some
from policykd.kd.experiments.system import Arm, Fit, cross_entropy, higher
from policykd.kd.systems.ca_mkd import CAMKD, CAMKDCell, CAMKDRecipe, weighted
from policykd.kd.training.evaluate import predict


@dataclass(frozen=True)
class Recipe(PreparedImages, CAMKDRecipe):
    """Three teachers, two of which have half of the classes wrong."""

    teacher: Fit = Fit((16, 32, 64), epochs=12, lr=3e-3)
    student: Fit = Fit((8, 16), epochs=30, lr=3e-3)
    transfer: int = 500
    pool: int = 3000


class _Cell(ImageCell, CAMKDCell):
    pass


class OnImages(CAMKD):
    """One student per weighting, one of the labels alone, and one of the teacher that is most accurate on its data."""

    recipe = Recipe()
    cell = _Cell

    @override
    def run(self, seed: int, recipe: Recipe) -> Mapping[str, Mapping[str, float]]:  # type: ignore[override]
        found = dict(super().run(seed, recipe))
        cell = self.cell(seed, recipe)
        teachers = cell.teachers()
        cell.transfer = some(cell.train, recipe.transfer, seed)
        taught = torch.stack([predict(teacher, cell.transfer)[0] for teacher in teachers])
        right = (taught.argmax(2) == cell.transfer.y).double().mean(1)
        alone = taught[right.argmax()][None]
        arms = {
            "labels alone": Arm(cross_entropy),
            "best teacher alone": weighted(alone, torch.ones(1, len(cell.transfer)), recipe),
        }
        return found | {name: self.measure(cell, cell.distil(arm)) for name, arm in arms.items()}


EXPERIMENT = replace(
    OnImages().experiment(),
    claim="On natural images, confidence weights protect a student from teachers that are sure and wrong.",
    comparisons=(
        *(
            higher("accuracy", "CA-MKD", baseline).says(
                f"A student with CA-MKD's weights is more accurate than {words}."
            )
            for baseline, words in (
                ("average", "one with equal weights"),
                ("entropy", "one with weights from entropies"),
                ("labels alone", "one without teachers"),
            )
        ),
        higher("accuracy", "CA-MKD", "best teacher alone", required=False).says(
            "It is more accurate than a student of the single teacher that is most accurate on the student's data."
        ),
    ),
    notes=("The best teacher is chosen by its accuracy on the students' labeled data, which any user can do.",),
)
