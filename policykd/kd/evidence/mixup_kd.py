"""Mixup and scaled logits in distillation on CIFAR-10; every claim is about accuracy or the teacher's entropy."""

from __future__ import annotations

from dataclasses import dataclass, replace

from policykd.kd.evidence._data import ImageCell, PreparedImages
from policykd.kd.experiments.system import Fit, higher, lower
from policykd.kd.systems.mixup_kd import MixupCell, MixupKD, MixupKDRecipe


@dataclass(frozen=True)
class Recipe(PreparedImages, MixupKDRecipe):
    """Convolutional teachers and students."""

    teacher: Fit = Fit((24, 48, 96), epochs=15, batch_size=64, lr=3e-3)
    student: Fit = Fit((8, 16), epochs=12, batch_size=64, lr=3e-3)
    pool: int = 2400


class _Cell(ImageCell, MixupCell):
    pass


class OnImages(MixupKD):
    """The arms of the digits."""

    recipe = Recipe()
    cell = _Cell


EXPERIMENT = replace(
    OnImages().experiment(),
    claim="On natural images, mixup makes a teacher softer and a worse teacher, and scaled logits replace T.",
    comparisons=(
        higher("entropy", "mixup teacher", "plain teacher").says(
            "A mixup teacher's predictions have a higher entropy than a plain teacher's."
        ),
        lower("accuracy", "mixup teacher, fixed T, FMU", "plain teacher, fixed T, FMU").says(
            "With full mixup, the mixup teacher's student is less accurate than the plain teacher's."
        ),
        higher("accuracy", "plain teacher, std, no mixup", "plain teacher, fixed T, no mixup").says(
            "Without mixup, logits scaled by their deviation give a more accurate student than a fixed temperature."
        ),
        higher("accuracy", "plain teacher, fixed T, PMU", "plain teacher, fixed T, FMU", required=False).says(
            "At a fixed temperature, partial mixup gives a more accurate student than full mixup."
        ),
    ),
    notes=(),
)
