"""Confidence-aware weights of teachers on CIFAR-10, with the trivial baselines: labels alone, the best teacher.

It describes arms and claims; the library trains them and computes the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from policykd.kd.evidence._data import ImageCell, PreparedImages
from policykd.kd.experiments.system import Fit, higher
from policykd.kd.systems.ca_mkd import CAMKD, CAMKDCell, CAMKDRecipe


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
    """The arms of the digits."""

    recipe = Recipe()
    cell = _Cell


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
