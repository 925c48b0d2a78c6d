"""Similarity-preserving distillation on CIFAR-10: few labels, a pool of unlabeled images.

It describes arms and claims; the library trains them and computes the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from typing_extensions import override

from policykd.kd.evidence._data import ImageCell, PreparedImages
from policykd.kd.experiments.system import Fit, higher
from policykd.kd.metrics import accuracy
from policykd.kd.systems.sp import SP, SPRecipe


@dataclass(frozen=True)
class Recipe(PreparedImages, SPRecipe):
    """Twenty labels per class and the teacher's images as a pool."""

    teacher: Fit = Fit((24, 48, 96), epochs=15, lr=3e-3, drop_last=True)
    student: Fit = Fit((8, 16), epochs=15, batch_size=96, lr=3e-3, drop_last=True)
    labeled_per_class: int = 20
    labeled_batch: int = 48
    pool: int = 2400


class _Cell(ImageCell):
    pass


class OnImages(SP):
    """The arms of the digits."""

    recipe = Recipe()
    cell = _Cell

    @override
    def measure(self, cell: Any, network: Any) -> dict[str, float]:
        return {"accuracy": accuracy(network(cell.test.x), cell.test.y)}


EXPERIMENT = replace(
    OnImages().experiment(),
    claim="On natural images, a teacher's similarities of unlabeled images help a student that has few labels.",
    comparisons=(
        higher("accuracy", "SP", "CE").says("Matching similarities on unlabeled images raises test accuracy."),
        higher("accuracy", "SP", "KD", required=False).says(
            "Matching similarities on unlabeled images gives a higher accuracy than matching logits."
        ),
        higher("accuracy", "KD", "CE", required=False).says("Matching logits on unlabeled images raises accuracy."),
    ),
    notes=(),
)
