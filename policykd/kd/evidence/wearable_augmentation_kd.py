"""Augmentation in distillation on two wearable data sets: each with every augmentation, and with the other's best one.

It describes data and claims; the system's module has the loss and the arms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from typing_extensions import override

from policykd.errors import ConfigError
from policykd.kd.data.samples import read_samples
from policykd.kd.evidence._data import PreparedData, draw_pool
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.system import Fit, higher
from policykd.kd.metrics import accuracy
from policykd.kd.networks.series import CNN1d
from policykd.kd.systems.wearable_augmentation_kd import (
    WearableAugmentation,
    WearableCell,
    WearableRecipe,
    World,
    crossed,
)
from policykd.kd.tasks.base import Split
from policykd.kd.training.evaluate import predict


@dataclass(frozen=True)
class Recipe(PreparedData, WearableRecipe):
    """Windows of held-out persons or, in data without persons, of held-out recordings.

    Attributes:
        second: File of the second data set.
        shares: Shares for training, for choosing an augmentation, and for testing.
    """

    teacher: Fit = Fit((16, 32, 32), epochs=15)
    student: Fit = Fit((8, 16), steps=300, batch_size=40)
    second: str = ""
    shares: tuple[float, ...] = (0.5, 0.2, 0.3)
    student_samples: int = 150
    pool: int = 1500


class _Cell(WearableCell):
    recipe: Recipe

    @override
    def splits(self) -> tuple[Split, Split]:
        recipe = self.recipe if self.world == "moving" else replace(self.recipe, data=self.recipe.second)
        if not recipe.data:
            raise ConfigError("this experiment compares two data sets: add --set second=<file of `policykd kd data`>")
        samples = read_samples(recipe.data)
        self.classes = len(samples.classes)
        parts = draw_pool(recipe, self.seed, by_group=samples.groups is not None)
        train, self.validation, test = (Split(F.adaptive_avg_pool1d(p.x, recipe.length), p.y) for p in parts)
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(self.seed))
        self.few = train.take(order[: recipe.student_samples])
        return train, test

    @override
    def build(self, role: str, fit: Fit) -> Any:
        return CNN1d(self.train.x.shape[1], fit.hidden, classes=self.classes)


class OnWearables(WearableAugmentation):
    """The arms of the generated windows on two data sets, and each set with the augmentation that the other chose."""

    recipe = Recipe()

    @override
    def run(self, seed: int, recipe: WearableRecipe) -> Metrics:
        worlds: tuple[tuple[World, str], ...] = (("moving", "first"), ("fixed", "second"))
        found: dict[str, dict[str, float]] = {}
        choices = {}
        for world, name in worlds:
            cell = _Cell(seed, recipe, world)
            arms = crossed(cell, _figures(cell))
            scores = {f"KD {one}": arms[f"KD {one}"]["validation"] for one in recipe.augmentations}
            choices[name] = max(scores, key=scores.__getitem__)
            found |= {f"{name}: {arm}": metrics for arm, metrics in arms.items()}
        for name, other in (("first", "second"), ("second", "first")):
            found[f"{name}: own choice"] = found[f"{name}: {choices[name]}"]
            found[f"{name}: the other's choice"] = found[f"{name}: {choices[other]}"]
        return found


def _figures(cell: _Cell) -> Any:
    def measure(network: Any) -> dict[str, float]:
        found = {"accuracy": cell.test, "validation": cell.validation}
        return {name: accuracy(*predict(network, split)) for name, split in found.items()}

    return measure


EXPERIMENT = replace(
    OnWearables().experiment(),
    claim="On wearable sensors, augmentation helps distillation, and the best augmentation depends on the data set.",
    comparisons=(
        higher("accuracy", "first: own choice", "first: KD none").says(
            "On the first data set, the augmentation that validation chooses is more accurate than none."
        ),
        higher("accuracy", "first: own choice", "first: the other's choice").says(
            "On the first data set, its own choice of augmentation is more accurate than the second data set's."
        ),
        higher("accuracy", "second: own choice", "second: KD none", required=False).says(
            "On the second data set, the augmentation that validation chooses is more accurate than none."
        ),
        higher("accuracy", "second: own choice", "second: the other's choice", required=False).says(
            "On the second data set, its own choice of augmentation is more accurate than the first data set's."
        ),
        higher("accuracy", "first: KD none", "first: labels only", required=False).says(
            "On the first data set, distillation without augmentation is more accurate than labels alone."
        ),
    ),
    notes=(
        "The first data set is a smartwatch on seven shoulder exercises of ten persons, of which three are the test; "
        "the second is BasicMotions, 80 recordings, of which 24 are the test.",
        "Choices are made on validation data of the seed, before the test.",
    ),
)
