"""Similarity between the frames of a clip on spoken digits: log-mel frames of held-out speakers, one tag per digit.

It describes arms and claims; the library trains them and computes the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from typing_extensions import override

from policykd.kd.evidence._data import PreparedData, draw_pool
from policykd.kd.experiments.system import Fit, higher
from policykd.kd.networks.frame_tagger import FrameTagger
from policykd.kd.systems.iusp import IUSPCell, IUSPRecipe, IUSPSystem
from policykd.kd.tasks.base import Split


@dataclass(frozen=True)
class Recipe(PreparedData, IUSPRecipe):
    """Speakers are shared out: most for training, the others for testing.

    Attributes:
        shares: Shares of training and test speakers.
    """

    teacher: Fit = Fit((96, 64), epochs=15)
    student: Fit = Fit((16, 16), epochs=60, batch_size=16)
    shares: tuple[float, ...] = (0.67, 0.33)
    tags: int = 10
    clips: int = 150
    pool: int = 1500


class _Cell(IUSPCell):
    @override
    def splits(self) -> tuple[Split, Split]:
        parts = draw_pool(self.recipe, self.seed, by_group=True)
        train, test = (Split(p.x.transpose(1, 2), F.one_hot(p.y, self.recipe.tags).float()) for p in parts)
        self.few = train.take(torch.arange(0, len(train), max(1, len(train) // self.recipe.clips)))
        return train, test

    @override
    def build(self, role: str, fit: Fit) -> FrameTagger:
        return FrameTagger(self.train.x.shape[2], fit.hidden, self.recipe.tags)


class OnSpeech(IUSPSystem):
    """The arms of the generated clips."""

    recipe = Recipe()
    cell = _Cell


EXPERIMENT = replace(
    OnSpeech().experiment(),
    claim="On spoken digits of unseen speakers, similarity between frames teaches more than similarity between clips.",
    comparisons=(
        higher("average precision", "iusp", "sp").says(
            "With one weight, keeping the similarity of frames gives a higher average precision than that of clips."
        ),
        higher("average precision", "iusp", "baseline").says(
            "Keeping the similarity of frames gives a higher average precision than no distillation."
        ),
        higher("average precision", "sp", "baseline", required=False).says(
            "Keeping the similarity of clips gives a higher average precision than no distillation."
        ),
        higher("average precision", "iusp", "kd", required=False).says(
            "Keeping the similarity of frames gives a higher average precision than plain distillation."
        ),
    ),
    notes=("Every clip has one tag, its digit; the paper's clips have several.",),
)
