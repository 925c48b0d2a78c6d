"""Self-supervised similarity of rotated views on CIFAR-10, where a rotated object is not another class.

It describes arms and claims; the library trains them and computes the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from typing_extensions import override

from policykd.kd.evidence._data import ImageCell, PreparedImages
from policykd.kd.experiments.system import Arm, Fit, higher
from policykd.kd.networks.headed_cnn import HeadedCNN
from policykd.kd.systems.sskd import SSKD, SSKDCell, SSKDRecipe


@dataclass(frozen=True)
class Recipe(PreparedImages, SSKDRecipe):
    """Forty images per class for the students, averaged to 12 x 12."""

    teacher: Fit = Fit((24, 48), steps=400, batch_size=64, lr=3e-3)
    student: Fit = Fit((8, 16), steps=300, batch_size=50, lr=3e-3)
    head_steps: int = 300
    per_class: int = 40
    pool: int = 2400
    side: int = 12


class _Cell(ImageCell, SSKDCell):
    @override
    def build(self, role: str, fit: Fit) -> HeadedCNN:
        return HeadedCNN(fit.hidden, in_channels=3, classes=10)


class OnImages(SSKD):
    """The arms of the digits; no metric of the similarity that the method minimizes decides."""

    recipe = Recipe()
    cell = _Cell

    @override
    def arms(self, cell: Any) -> dict[str, Arm]:
        return {name: replace(arm, figures=None) for name, arm in super().arms(cell).items()}


EXPERIMENT = replace(
    OnImages().experiment(),
    claim="On natural images with few samples, similarity of rotated views helps more than plain distillation.",
    comparisons=(
        higher("accuracy", "sskd", "kd").says("SSKD gives a higher test accuracy than plain distillation."),
        higher("accuracy", "sskd", "ce").says("SSKD gives a higher test accuracy than cross-entropy."),
        higher("retrieval", "teacher", by=2.0, required=False).says(
            "The teacher's head finds the original of a rotated view more than twice as often as chance."
        ),
    ),
    notes=(),
)
