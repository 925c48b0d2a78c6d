"""Contrastive distillation on CIFAR-10, compared with and without the contrastive term at equal weights.

It describes arms and claims; the library trains them and computes the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from typing_extensions import override

from policykd.kd.evidence._data import ImageCell, PreparedImages
from policykd.kd.experiments.system import Arm, Fit, higher
from policykd.kd.metrics import accuracy
from policykd.kd.systems.crd import CRDCell, CRDRecipe, CRDSystem


@dataclass(frozen=True)
class Recipe(PreparedImages, CRDRecipe):
    """Forty images per class for the students."""

    teacher: Fit = Fit((24, 48, 96), steps=400, batch_size=64, lr=3e-3)
    student: Fit = Fit((8, 16), steps=250, batch_size=50, lr=3e-3)
    per_class: int = 40
    pool: int = 3000


class _Cell(ImageCell, CRDCell):
    pass


class OnImages(CRDSystem):
    """The arms of the digits."""

    recipe = Recipe()
    cell = _Cell

    @override
    def arms(self, cell: Any) -> dict[str, Arm]:
        return {name: replace(arm, figures=None) for name, arm in super().arms(cell).items()}

    @override
    def measure(self, cell: Any, network: Any) -> dict[str, float]:
        return {"accuracy": accuracy(network(cell.test.x), cell.test.y)}


EXPERIMENT = replace(
    OnImages().experiment(),
    claim="On natural images, the contrastive term raises accuracy, alone and added to plain distillation.",
    comparisons=(
        higher("accuracy", "crd", "ce").says("The contrastive term raises test accuracy over cross-entropy."),
        higher("accuracy", "kd + crd", "kd, same weights").says(
            "Added to plain distillation, with the same weights on both sides, the term raises test accuracy."
        ),
        higher("accuracy", "kd", "ce", required=False).says("Plain distillation is more accurate than cross-entropy."),
    ),
    notes=("Both sides of the second comparison have weight 1 on cross-entropy and divergence.",),
)
