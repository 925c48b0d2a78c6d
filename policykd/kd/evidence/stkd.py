"""Distillation on mixed virtual images of CIFAR-10; the claim is superiority, as the paper's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from policykd.kd.evidence._data import ImageCell, PreparedImages
from policykd.kd.experiments.few_labels import FewSamplesCell
from policykd.kd.experiments.system import Fit, higher
from policykd.kd.systems.stkd import STKD, STKDRecipe


@dataclass(frozen=True)
class Recipe(PreparedImages, STKDRecipe):
    """Forty images per class for the students."""

    teacher: Fit = Fit((24, 48, 96), steps=400, batch_size=64, lr=3e-3)
    student: Fit = Fit((8, 16), steps=300, batch_size=50, lr=3e-3)
    per_class: int = 40
    pool: int = 3000


class _Cell(ImageCell, FewSamplesCell):
    pass


class OnImages(STKD):
    """The arms of the digits."""

    recipe = Recipe()
    cell = _Cell


EXPERIMENT = replace(
    OnImages().experiment(),
    claim="On natural images with few samples, distillation on mixtures is more accurate than plain distillation.",
    comparisons=(
        higher("accuracy", "stkd on_mix", "kd").says(
            "Distillation on mixtures is more accurate than plain distillation."
        ),
        higher("accuracy", "stkd on_mix", "mixup").says(
            "Distillation on mixtures is more accurate than mixup without a teacher."
        ),
        higher("accuracy", "stkd on_mix", "stkd mixed_targets", required=False).says(
            "A teacher that sees the mixture teaches a more accurate student than mixed outputs."
        ),
    ),
    notes=(),
)
