"""Which augmentation of time series to use while a student of wearable sensors is distilled.

Jeon, Som, Shukla, Hasanaj, Buman, Turaga, Role of Data Augmentation Strategies in Knowledge Distillation for Wearable
Sensor Data (IEEE Internet of Things Journal 9(14), 2022, arXiv 2201.00111). The loss is plain distillation; the student
and the teacher see the same augmented window. Augmentations are removal, noise, circular shift, two mixtures of them
(always in the order shift, noise, removal) and one drawn per window. Students of all arms take equally many steps.

Departures: multilayer perceptrons on generated windows here, small convolutional networks on wearable sensors in
``policykd.kd.evidence.wearable_augmentation_kd``. Of the crossed grid there are the augmentations of the student, and
for the shift also those of the teacher alone and of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from policykd.kd import functional as kf
from policykd.kd.data.series_augmentations import Chain, OneOf, RelativeNoise, Removal, SeriesAugmentation, Shift
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Share
from policykd.kd.experiments.system import (
    Cell,
    DistillationRecipe,
    Fit,
    StudentLoss,
    System,
    cross_entropy,
    higher,
    lower,
)
from policykd.kd.networks import MLP
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.plain import Limits
from policykd.seeding import generator, integer_seed

World = Literal["moving", "fixed"]


@dataclass(frozen=True)
class WearableRecipe(DistillationRecipe):
    """Windows of two worlds: waves that begin anywhere, whose speed is the class, and bumps, whose place is the class.

    Attributes:
        removal: Longest removed block as a share of the window.
        shift: Longest shift as a share of the window.
        noise: Deviation of the noise as a share of the window's.
        length: Steps of a window.
        teacher_samples: Training windows of the teacher.
        student_samples: Those of the students, the teacher's first.
        test_samples: Test windows.
        disturbance: Standard deviation of the windows' own noise.
    """

    teacher: Fit = Fit((128, 128), epochs=20)
    student: Fit = Fit((32,), steps=400, batch_size=40)
    temperature: float = 4.0
    ce_weight: float = 0.3
    kd_weight: float = 0.7
    removal: Share = 0.5
    shift: Share = 0.5
    noise: Annotated[float, Limits(0, 100)] = 0.2
    length: Annotated[int, Limits(16, 4096)] = 64
    teacher_samples: Annotated[int, Limits(20, 10**6)] = 2000
    student_samples: Annotated[int, Limits(10, 10**6)] = 40
    test_samples: Annotated[int, Limits(10, 10**6)] = 1000
    disturbance: Annotated[float, Limits(0, 100)] = 0.8

    @property
    def augmentations(self) -> dict[str, SeriesAugmentation | None]:
        """Return the augmentations by name."""
        removal, shift, noise = Removal(self.removal), Shift(self.shift), RelativeNoise(self.noise)
        return {
            "none": None,
            "removal": removal,
            "noise": noise,
            "shift": shift,
            "mix1": Chain((shift, removal)),
            "mix2": Chain((shift, noise, removal)),
            "all": OneOf((removal, noise, shift)),
        }


CYCLES = (2, 3, 5, 7)
"""Waves per window of the classes of the moving world; the fixed world has as many classes."""


def draw_windows(count: int, world: World, recipe: WearableRecipe, rng: np.random.Generator) -> Split:
    """Generate windows ``(N, 1, L)`` with labels: waves of random phase, or bumps at one of four places.

    Args:
        count: Number of windows.
        world: ``moving`` for waves, ``fixed`` for bumps.
        recipe: Length and noise.
        rng: Source of randomness.
    """
    y, time = rng.integers(0, len(CYCLES), count), np.arange(recipe.length) / recipe.length
    phase, height = rng.uniform(0, 2 * np.pi, (count, 1)), rng.uniform(0.5, 1.5, (count, 1))
    if world == "moving":
        clean = np.sin(2 * np.pi * np.asarray(CYCLES)[y][:, None] * time + phase)
    else:
        places = (np.arange(len(CYCLES)) + 0.5) / len(CYCLES)
        clean = 1.5 * np.exp(-0.5 * ((time - places[y][:, None]) / 0.03) ** 2)
    x = height * clean + recipe.disturbance * rng.normal(size=(count, recipe.length))
    return Split(torch.from_numpy(x[:, None]).float(), torch.from_numpy(y))


def augmented_loss(
    teacher: nn.Module | None, augmentation: SeriesAugmentation | None, recipe: DistillationRecipe, seed: int
) -> StudentLoss:
    """Return the loss on augmented windows: ``ce_weight CE + kd_weight T**2 KL``, both networks on the same windows.

    Args:
        teacher: The teacher in eval mode; None for cross-entropy alone.
        augmentation: What is done to a batch; None for nothing.
        recipe: Temperature and weights.
        seed: Seeds the draws of the augmentation.
    """
    draws = torch.Generator().manual_seed(seed)

    def loss(network: nn.Module, batch: Batch, epoch: int) -> Tensor:
        x = batch.x if augmentation is None else augmentation(batch.x, draws)
        logits = network(x)
        if teacher is None:
            return F.cross_entropy(logits, batch.targets)
        with torch.no_grad():
            taught = teacher(x)
        soft = kf.kd(logits, taught, temperature=recipe.temperature)
        return recipe.ce_weight * F.cross_entropy(logits, batch.targets) + recipe.kd_weight * soft

    return loss


class WearableCell(Cell[WearableRecipe]):
    """One seed of one world.

    Args:
        seed: The seed.
        recipe: The configuration.
        world: The world.
    """

    student_order: ClassVar[tuple[str, ...] | None] = ("order", "student")

    def __init__(self, seed: int, recipe: WearableRecipe, world: World = "moving") -> None:
        self.world: World = world
        super().__init__(seed, recipe)

    @override
    def splits(self) -> tuple[Split, Split]:
        rng = generator(self.seed, "wearable_augmentation_kd", self.world)
        train, test = (
            draw_windows(count, self.world, self.recipe, rng)
            for count in (self.recipe.teacher_samples, self.recipe.test_samples)
        )
        self.few = train.take(torch.arange(min(self.recipe.student_samples, len(train))))
        return train, test

    @override
    def build(self, role: str, fit: Fit) -> Any:
        return MLP(self.train.x.shape[1:], fit.hidden, classes=len(CYCLES))

    def taught_teacher(self, augmentation: SeriesAugmentation | None) -> Any:
        """Return a teacher that was trained on augmented windows."""
        fit, seed = self.recipe.teacher, integer_seed(self.seed, "augmentation", "teacher")
        loss = augmented_loss(None, augmentation, self.recipe, seed)
        return self.fit(self.network("teacher", fit), loss, self.train, fit, self.teacher_order)

    def student(self, teacher: Any, augmentation: SeriesAugmentation | None) -> Any:
        """Return a student; all begin with equal weights, and see the same windows in the same order."""
        fit, seed = self.recipe.student, integer_seed(self.seed, "augmentation", "student")
        loss = augmented_loss(teacher, augmentation, self.recipe, seed)
        return self.fit(self.network("student", fit), loss, self.few, fit, self.student_order)


def crossed(cell: Any, measure: Any) -> dict[str, dict[str, float]]:
    """Return the metrics of a cell's teachers and students: labels alone, every augmentation, and the shift elsewhere.

    Args:
        cell: A :class:`WearableCell` or one with its methods.
        measure: ``network -> metrics``.
    """
    known: Mapping[str, SeriesAugmentation | None] = cell.recipe.augmentations
    plain, shifted = cell.taught_teacher(None), cell.taught_teacher(known["shift"])
    few, order = cell.recipe.student, cell.student_order
    labels = cell.fit(cell.network("student", few), cross_entropy, cell.few, few, order)
    found = {"teacher": measure(plain), "teacher, shift": measure(shifted), "labels only": measure(labels)}
    found |= {f"KD {name}": measure(cell.student(plain, one)) for name, one in known.items()}
    found["KD shift, teacher only"] = measure(cell.student(shifted, None))
    return found | {"KD shift, both": measure(cell.student(shifted, known["shift"]))}


class WearableAugmentation(System[WearableRecipe]):
    """Every augmentation of the student in two worlds, one in which a shift keeps the class and one in which not."""

    name = "wearable_augmentation_kd"
    title = "Augmentation of time series in distillation for wearable sensors"
    paper = "Jeon, Som, Shukla, Hasanaj, Buman, Turaga, IEEE IoT-J 9(14), 2022, arXiv 2201.00111"
    claim = (
        "Whether an augmentation helps depends on the data: a shift of the teacher's and the student's windows helps "
        "with waves and hurts with bumps."
    )
    claims = (
        higher("accuracy", "moving: KD shift, both", "moving: KD none").says(
            "Where waves begin anywhere, shifts for teacher and student make distillation more accurate."
        ),
        lower("accuracy", "fixed: KD shift, both", "fixed: KD none").says(
            "Where the place of a bump is the class, shifts for teacher and student make distillation less accurate."
        ),
        higher("accuracy", "moving: KD none", "moving: labels only").says(
            "Where waves begin anywhere, distillation without augmentation is more accurate than labels alone."
        ),
        lower("accuracy", "fixed: KD shift", "fixed: KD none", required=False).says(
            "Where the place of a bump is the class, shifts for the student alone make distillation less accurate."
        ),
        higher("accuracy", "moving: KD shift", "moving: KD none", by=0.04, required=False).says(
            "Where waves begin anywhere, shifts for the student alone add at least 4 points to distillation."
        ),
        higher("accuracy", "moving: KD shift", "moving: KD shift, teacher only", required=False).says(
            "Where waves begin anywhere, shifts of the student's windows help more than shifts of the teacher's."
        ),
        higher("accuracy", "fixed: KD removal", "fixed: KD none", required=False).says(
            "Where the place of a bump is the class, removal makes distillation more accurate."
        ),
    )
    notes = (
        "Shifts for the student alone were expected to hurt with bumps. They did not in a first look: a teacher that "
        "never saw shifts names the class of the shifted window, so they are more labeled data.",
        "Generated windows show that the best augmentation depends on the data, not which is best on a sensor.",
    )
    recipe = WearableRecipe()

    @override
    def run(self, seed: int, recipe: WearableRecipe) -> Metrics:
        found: dict[str, dict[str, float]] = {}
        worlds: tuple[World, ...] = ("moving", "fixed")
        for world in worlds:
            cell = WearableCell(seed, recipe, world)
            arms = crossed(cell, lambda network, cell=cell: self.measure(cell, network))
            found |= {f"{world}: {name}": metrics for name, metrics in arms.items()}
        return found


EXPERIMENT = WearableAugmentation().experiment()
