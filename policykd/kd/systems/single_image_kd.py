"""Distillation from one picture: a student only sees patches of a photograph, and what a teacher says of them.

Asano and Saeed, The Augmented Image Prior: Distilling 1000 Classes by Extrapolating from a Single Image (ICLR 2023,
arXiv 2112.00725). Patches are in ``policykd.kd.data.patches``, CutMix is in ``policykd.kd.training.cutmix``. The
photographs come with scikit-learn.

Departures: the teacher and its task are small, and patches of digits are gray, stretched to the whole range, inverted
and brightened at random. The divergence has no factor ``T^2``, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from policykd.kd import functional as kf
from policykd.kd.data.patches import PatchConfig, make_patches
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Scale, Temperature
from policykd.kd.experiments.system import Cell, Fit, Recipe, System, higher
from policykd.kd.metrics import accuracy, agreement
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.cutmix import cutmix, draw_box
from policykd.kd.training.loop import minimize
from policykd.plain import Limits
from policykd.seeding import generator, integer_seed

PHOTOGRAPHS = {"china": "china.jpg", "flower": "flower.jpg"}
"""Names of scikit-learn's photographs, the busy one first."""


@dataclass(frozen=True)
class SingleImageRecipe(Recipe):
    """A teacher of digits, and a student of patches.

    Attributes:
        temperature: T of the distillation; the arm with T = 1 is its control.
        patches: Number of patches.
        patch: How they are drawn.
        concentration: a of the Beta distribution of CutMix.
    """

    teacher: Fit = Fit((256,), steps=600, lr=1e-3)
    student: Fit = Fit((64,), epochs=24, batch_size=128, lr=5e-3)
    shares: tuple[float, ...] = (0.56, 0.44)
    temperature: Temperature = 8.0
    patches: Annotated[int, Limits(10, 10**7)] = 3000
    patch: PatchConfig = field(default_factory=lambda: PatchConfig(side=8, zoom=60.0, shear=10.0))
    concentration: Scale = 0.25


def photograph(name: str) -> Tensor:
    """Return a photograph of scikit-learn ``(3, H, W)`` in [0, 1]."""
    from sklearn.datasets import load_sample_image

    return torch.from_numpy(np.array(load_sample_image(PHOTOGRAPHS[name]))).permute(2, 0, 1).float() / 255.0


def as_digits(patches: Tensor, seed: int) -> Tensor:
    """Return patches in the manner of the digits: gray, from 0 to 1, half of them inverted, with random gamma, flat."""
    rng, gray = generator(seed, "as digits"), patches.mean(1).flatten(1)
    low, high = gray.amin(1, keepdim=True), gray.amax(1, keepdim=True)
    stretched = (gray - low) / (high - low).clamp_min(1e-3)
    inverted = torch.from_numpy(rng.uniform(size=(len(gray), 1)) < 0.5)
    gamma = torch.from_numpy(np.exp(rng.uniform(-0.7, 0.7, (len(gray), 1)))).float()
    return torch.where(inverted, 1.0 - stretched, stretched).clamp(0.0, 1.0) ** gamma


class SingleImageCell(Cell[Any]):
    """One seed: a teacher of real data, and inputs that are not."""

    side = 8

    def inputs(self, name: str) -> Tensor:
        """Return the patches of a photograph as the networks see them."""
        recipe = self.recipe
        seed = integer_seed(self.seed, "single_image_kd", name)
        return self.like_data(make_patches(photograph(name), recipe.patches, recipe.patch, seed=seed))

    def like_data(self, patches: Tensor) -> Tensor:
        """Return patches ``(N, 3, H, W)`` as inputs of the networks."""
        return as_digits(patches, integer_seed(self.seed, "single_image_kd", "colors"))

    @cached_property
    def constant(self) -> Tensor:
        """Inputs of a single value each."""
        rng = generator(self.seed, "single_image_kd", "constant")
        values = torch.from_numpy(rng.uniform(size=(self.recipe.patches, 1))).float()
        return values.expand(-1, self.train.x.shape[1]).contiguous()

    @cached_property
    def noise(self) -> Tensor:
        """Inputs of independent uniform values."""
        rng = generator(self.seed, "single_image_kd", "noise")
        return torch.from_numpy(rng.uniform(size=(self.recipe.patches, *self.train.x.shape[1:]))).float()

    @property
    def real(self) -> Tensor:
        """Real inputs, repeated to as many as there are patches."""
        rows = torch.arange(self.recipe.patches) % len(self.train)
        return self.train.x[rows]

    def student(self, x: Tensor, *, temperature: float | None = None, mixed: bool = False) -> nn.Module:
        """Return a student that learned the teacher's answers to some inputs.

        Args:
            x: Inputs ``(N, ...)``.
            temperature: T; the recipe's if None.
            mixed: Whether batches are mixed by CutMix.
        """
        recipe, network = self.recipe, self.network("student", self.recipe.student)
        rng = generator(self.seed, "single_image_kd", "boxes")
        softness = recipe.temperature if temperature is None else temperature

        def loss(batch: Batch, epoch: int) -> Tensor:
            seen = batch.x
            if mixed:
                image = seen if seen.dim() == 4 else seen.reshape(len(seen), 1, self.side, self.side)
                box = draw_box(image.shape[2], rng, concentration=recipe.concentration)
                seen = cutmix(image, box).reshape(seen.shape)
            with torch.no_grad():
                taught = self.teacher(seen)
            return kf.kd(network(seen), taught, temperature=softness, scale_t2=False)

        data = Split(x, torch.zeros(len(x), dtype=torch.long))  # labels that nothing reads
        minimize(loss, network, data, recipe.student.config(len(x), self.order(self.student_order)))
        return network


_PHOTO, _SHARP, _CONSTANT = "photograph", "photograph, T = 1", "constant patches"


class SingleImageKD(System[Any]):
    """Students of patches of a photograph, of another one, of simpler inputs, and of real data."""

    name = "single_image_kd"
    title = "Distillation from patches of a single picture"
    paper = "Asano, Saeed, ICLR 2023, arXiv 2112.00725"
    claim = (
        "A student that only sees patches of one photograph learns a teacher's task, if the teacher's answers are soft "
        "and the patches have content."
    )
    claims = (
        higher("accuracy", _PHOTO, _SHARP).says(
            "With a high temperature, patches of a photograph teach more than with T = 1."
        ),
        higher("accuracy", _PHOTO, _CONSTANT).says("Patches of a photograph teach more than patches of one value."),
        higher("accuracy", _PHOTO, "noise", required=False).says("Patches of a photograph teach more than noise."),
        higher("accuracy", _PHOTO, "simpler photograph", required=False).says(
            "A busy photograph teaches more than a simple one."
        ),
        higher("accuracy", "photograph, cutmix", _PHOTO, required=False).says("CutMix makes patches teach more."),
        higher("accuracy", _PHOTO, "real data", required=False).says("A photograph teaches more than real data."),
    )
    notes = (
        "Inputs this small are covered by noise, so the paper's claim about noise is not required.",
        "Epochs and rates were chosen on seed 0.",
    )
    recipe: Any = SingleImageRecipe()
    cell = SingleImageCell

    @override
    def measure(self, cell: Any, network: nn.Module) -> dict[str, float]:
        logits, taught = network(cell.test.x), cell.teacher(cell.test.x)
        return {"accuracy": accuracy(logits, cell.test.y), "agreement": agreement(logits, taught)}

    @override
    def run(self, seed: int, recipe: Any) -> Metrics:
        cell: SingleImageCell = self.cell(seed, recipe)
        names = list(PHOTOGRAPHS)
        busy = cell.inputs(names[0])
        students = {
            _PHOTO: cell.student(busy),
            _SHARP: cell.student(busy, temperature=1.0),
            "photograph, cutmix": cell.student(busy, mixed=True),
            "simpler photograph": cell.student(cell.inputs(names[1])),
            _CONSTANT: cell.student(cell.constant),
            "noise": cell.student(cell.noise),
            "real data": cell.student(cell.real),
        }
        with torch.no_grad():
            found = {"teacher": self.measure(cell, cell.teacher)}
            return found | {name: self.measure(cell, student) for name, student in students.items()}


EXPERIMENT = SingleImageKD().experiment()
