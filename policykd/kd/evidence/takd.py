"""Teacher assistants on CIFAR-10: convolutional teacher, assistant and student, claims on accuracy alone.

It describes arms and claims; the library trains them and computes the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from policykd.kd.evidence._data import ImageCell, PreparedImages
from policykd.kd.experiments.system import Fit, higher
from policykd.kd.systems.takd import TAKD, TAKDCell, TAKDRecipe


@dataclass(frozen=True)
class Recipe(PreparedImages, TAKDRecipe):
    """Three layers for the teacher, two for assistant and student."""

    teacher: Fit = Fit((24, 48, 96), epochs=12, batch_size=64, lr=3e-3)
    student: Fit = Fit((4, 8), epochs=12, batch_size=64, lr=3e-3)
    assistant: Fit = Fit((12, 24), epochs=12, batch_size=64, lr=3e-3)
    pool: int = 2400


class _Cell(ImageCell, TAKDCell):
    pass


class OnImages(TAKD):
    """The student of the teacher and of an assistant, on images."""

    recipe = Recipe()
    cell = _Cell


EXPERIMENT = replace(
    OnImages().experiment(),
    claim="On natural images, a small student of an assistant is more accurate than a student of the teacher.",
    comparisons=(
        higher("accuracy", "student, assistant", "student, direct").says(
            "A student of the distilled assistant is more accurate than one distilled from the teacher."
        ),
        higher("accuracy", "student, assistant", "student, direct, double epochs").says(
            "It is more accurate than a student of the teacher with as many epochs as assistant and student together."
        ),
        higher("accuracy", "student, direct", "student, no teacher", required=False).says(
            "A student of the teacher is more accurate than one of the labels."
        ),
    ),
    notes=("Images are averaged to 16 x 16; training sets are small, so accuracies are far below published ones.",),
)
