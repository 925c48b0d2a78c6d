"""Distilled spectrograms of emotional speech: the speakers of the test are unseen.

It describes arms and claims; the library trains them and computes the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

import torch.nn.functional as F
from torch import nn
from typing_extensions import override

from policykd.kd.evidence._data import PreparedData, draw_pool
from policykd.kd.experiments.limits import Scale
from policykd.kd.experiments.system import DistillationRecipe, Fit, higher
from policykd.kd.systems.data_distillation_ser import DataDistillationSER, DistilledCell
from policykd.kd.tasks.base import Split
from policykd.kd.training.distilled_data import DistilledConfig
from policykd.plain import Limits


@dataclass(frozen=True)
class Recipe(PreparedData, DistillationRecipe):
    """Log-mel frames, averaged over time to a few steps; speakers are shared out.

    Attributes:
        shares: Shares of training and test speakers.
        frames: Steps to which a recording is averaged down.
        classes: Number of classes.
        distilled: Sizes and training of the distilled data.
        other_starts: Further first parameters on which distilled data are tried.
        grid: Learning rates from which the baselines choose theirs.
    """

    teacher: Fit = Fit((8, 16), epochs=30, batch_size=64)
    student: Fit = Fit((8, 16), epochs=1)
    shares: tuple[float, ...] = (0.7, 0.3)
    frames: Annotated[int, Limits(8, 1000)] = 24
    classes: Annotated[int, Limits(2, 1000)] = 7
    distilled: DistilledConfig = field(
        default_factory=lambda: DistilledConfig(rounds=150, batch_size=128, rate=0.05, halve_every=60)
    )
    other_starts: Annotated[int, Limits(1, 1000)] = 3
    grid: tuple[Scale, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)


class _Cell(DistilledCell):
    @override
    def splits(self) -> tuple[Split, Split]:
        self.classes = self.recipe.classes
        parts = draw_pool(self.recipe, self.seed, by_group=True)
        train, test = (Split(F.adaptive_avg_pool1d(p.x, self.recipe.frames)[:, None], p.y) for p in parts)
        return train, test

    @override
    def build(self, role: str, fit: Fit) -> nn.Module:
        bands, frames = self.train.x.shape[2:]
        first, second = fit.hidden
        size = ((bands + 3) // 4) * ((frames + 3) // 4)
        return nn.Sequential(
            nn.Conv2d(1, first, 5, 2, 2),
            nn.ReLU(),
            nn.Conv2d(first, second, 5, 2, 2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(second * size, self.classes),
        )


class OnSpeech(DataDistillationSER):
    """The arms of the digits."""

    recipe = Recipe()
    cell = _Cell


EXPERIMENT = replace(
    OnSpeech().experiment(),
    claim="From a known start, a few steps on distilled spectrograms teach the emotions of unseen speakers.",
    comparisons=(
        higher("uar", "distilled", "real samples").says(
            "Distilled spectrograms teach more than as many real ones in as many steps."
        ),
        higher("uar", "distilled", "k-means centers").says(
            "Distilled spectrograms teach more than as many centers of clusters."
        ),
        higher("uar", "distilled", "distilled, other starts").says(
            "Distilled spectrograms teach more from their own start than from others."
        ),
        higher("uar", "distilled", "all data", required=False).says(
            "Distilled spectrograms teach more than all training data with many more steps."
        ),
    ),
    notes=(
        "The corpus is EMO-DB and not the paper's; the network has two small convolutions and no normalization.",
        "Distilled data are not private by themselves, and nothing here shows that they are.",
    ),
)
