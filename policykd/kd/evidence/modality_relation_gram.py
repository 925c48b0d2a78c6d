"""Relations between modalities on a smartwatch: acceleration, rotation, and the spectrum of the acceleration.

It describes arms and claims; the library trains them and computes the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from policykd.kd.evidence._data import PreparedData, draw_pool
from policykd.kd.experiments.system import Fit, higher
from policykd.kd.systems.modality_relation_gram import ModalityCell, ModalityRecipe, ModalityRelationGram
from policykd.kd.tasks.base import Split
from policykd.plain import Limits
from policykd.seeding import generator


@dataclass(frozen=True)
class Recipe(PreparedData, ModalityRecipe):
    """Windows of held-out persons; in some, one modality is that of another window.

    Attributes:
        shares: Shares of training and test persons.
        steps: Steps to which a window is averaged down.
    """

    teacher: Fit = Fit((96, 32), epochs=20)
    student: Fit = Fit((16, 8), epochs=60)
    shares: tuple[float, ...] = (0.7, 0.3)
    steps: Annotated[int, Limits(4, 1024)] = 32
    classes: int = 7
    inputs: tuple[int, ...] = (96, 96, 51)
    student_samples: int = 300
    pool: int = 2000


def modalities(x: Tensor, steps: int) -> list[Tensor]:
    """Return acceleration, rotation and the acceleration's spectrum, each flattened, of windows ``(N, 6, T)``."""
    small = F.adaptive_avg_pool1d(x, steps)
    spectrum = torch.fft.rfft(small[:, :3]).abs().log1p()
    return [small[:, :3].flatten(1), small[:, 3:6].flatten(1), spectrum.flatten(1)]


class _Cell(ModalityCell):
    recipe: Recipe

    @override
    def splits(self) -> tuple[Split, Split]:
        rng = generator(self.seed, "evidence", "corruption")
        parts = []
        for split in draw_pool(self.recipe, self.seed, by_group=True):
            views, count = modalities(split.x, self.recipe.steps), len(split)
            hit = torch.from_numpy(rng.uniform(size=count) < self.recipe.corruption)
            which = torch.where(hit, torch.from_numpy(rng.integers(0, len(views), count)), -1)
            donor = torch.from_numpy((torch.arange(count).numpy() + rng.integers(1, count, count)) % count)
            mixed = [torch.where((which == m)[:, None], view[donor], view) for m, view in enumerate(views)]
            order = torch.from_numpy(rng.permutation(count))
            parts.append((Split(torch.cat(mixed, 1)[order], split.y[order]), which[order]))
        self.corrupted = parts[1][1]
        return parts[0][0], parts[1][0]


class OnSmartwatch(ModalityRelationGram):
    """The arms of the generated data."""

    recipe = Recipe()
    cell = _Cell


EXPERIMENT = replace(
    OnSmartwatch().experiment(),
    claim="On a smartwatch and unseen persons, the Gram term makes a student more accurate than outputs alone.",
    comparisons=(
        higher("accuracy", "output and gram", "output").says(
            "The Gram term gives a higher test accuracy than outputs alone."
        ),
        higher("accuracy on corrupted", "output and gram", "output").says(
            "The Gram term gives a higher accuracy on windows with a foreign modality than outputs alone."
        ),
        higher("corrupted modality found", "output and gram", "output", required=False).says(
            "With the Gram term, the foreign modality is the least trusted more often than with outputs alone."
        ),
        higher("accuracy", "output", "labels only", required=False).says("Outputs alone beat labels alone."),
    ),
    notes=("In 30 % of the windows one modality is replaced by that of another window, in training and test alike.",),
)
