"""Distillation from patches of one photograph on natural images: neither student nor patches see the data set.

It describes arms and claims; the library trains them and computes the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from torch import Tensor
from typing_extensions import override

from policykd.kd.data.patches import PatchConfig
from policykd.kd.evidence._data import ImageCell, PreparedImages
from policykd.kd.experiments.limits import Scale, Temperature
from policykd.kd.experiments.system import Fit, Recipe, higher
from policykd.kd.systems.single_image_kd import SingleImageCell, SingleImageKD
from policykd.plain import Limits


@dataclass(frozen=True)
class PhotographRecipe(PreparedImages, Recipe):
    """A teacher of natural images, and a student of patches of as many pixels.

    Attributes:
        patches: Number of patches.
        patch: How they are drawn; their side is that of the images.
        concentration: a of the Beta distribution of CutMix.
    """

    teacher: Fit = Fit((16, 32, 64), epochs=12)
    student: Fit = Fit((16, 32), epochs=12)
    shares: tuple[float, ...] = (0.7, 0.3)
    temperature: Temperature = 8.0
    patches: Annotated[int, Limits(10, 10**7)] = 1500
    patch: PatchConfig = field(default_factory=lambda: PatchConfig(side=16, zoom=60.0))
    concentration: Scale = 0.25
    pool: int = 2500


class _Cell(ImageCell, SingleImageCell):
    side = 16

    @override
    def like_data(self, patches: Tensor) -> Tensor:
        spread = patches.std((0, 2, 3), keepdim=True).clamp_min(1e-6)
        return (patches - patches.mean((0, 2, 3), keepdim=True)) / spread  # statistics of the patches, not of the data

    @property
    @override
    def constant(self) -> Tensor:
        return self.noise.mean((2, 3), keepdim=True).expand_as(self.noise) * float(self.side)

    @property
    @override
    def noise(self) -> Tensor:
        return (super().noise - 0.5) * 12**0.5


class OnPhotographs(SingleImageKD):
    """The arms of the digits."""

    recipe = PhotographRecipe()
    cell = _Cell


EXPERIMENT = replace(
    OnPhotographs().experiment(),
    claim="Patches of one photograph, with soft answers of a teacher, teach a student the classes of natural images.",
    comparisons=(
        higher("accuracy", "photograph", "photograph, T = 1").says(
            "With a high temperature, patches of a photograph teach more than with T = 1."
        ),
        higher("accuracy", "photograph", "noise").says("Patches of a photograph teach more than noise."),
        higher("accuracy", "photograph", "constant patches", required=False).says(
            "Patches of a photograph teach more than patches of one value."
        ),
        higher("accuracy", "photograph", "simpler photograph", required=False).says(
            "A busy photograph teaches more than a simple one."
        ),
        higher("accuracy", "photograph, cutmix", "photograph", required=False).says("CutMix makes patches teach more."),
        higher("accuracy", "photograph", "real data", required=False).says("A photograph teaches more than real data."),
    ),
    notes=("Patches are standardized by their own statistics, so that nothing of the data reaches the student.",),
)
