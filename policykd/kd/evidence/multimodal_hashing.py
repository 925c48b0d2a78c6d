"""Multimodal hashing of spoken and written digits: log-mel frames of held-out speakers, and the 8 x 8 digits.

It describes data and claims; the system's module trains the codes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from typing_extensions import override

from policykd.kd.evidence._data import PreparedData, draw_pool
from policykd.kd.experiments.digits import digits_rows
from policykd.kd.systems.multimodal_hashing import HashingRecipe, Modalities, MultimodalHashing
from policykd.kd.tasks.base import Split
from policykd.plain import Limits
from policykd.seeding import generator


@dataclass(frozen=True)
class Recipe(PreparedData, HashingRecipe):
    """Speakers are shared out, and so are the written digits.

    Attributes:
        shares: Shares of training and test speakers, and of the written digits.
        bands: Mel bands to which a recording is averaged down.
        steps: Steps in time to which it is averaged down.
    """

    shares: tuple[float, ...] = (0.67, 0.33)
    bands: Annotated[int, Limits(1, 1024)] = 10
    steps: Annotated[int, Limits(1, 1024)] = 12
    pool: int = 1500


class OnSpeechAndDigits(MultimodalHashing):
    """The arms of the halves of digits."""

    recipe = Recipe()

    @override
    def data(self, seed: int, recipe: HashingRecipe) -> Modalities:
        assert isinstance(recipe, Recipe)
        spoken = []
        for part in draw_pool(recipe, seed, by_group=True):
            small = F.adaptive_avg_pool2d(part.x[:, None], (recipe.bands, recipe.steps)).flatten(1)
            spoken.append(Split(small, part.y))
        written = digits_rows(seed, recipe.shares)
        mean, spread = written[0].x.mean(0), written[0].x.std(0).clamp_min(1e-3)
        written = [Split((split.x - mean) / spread, split.y) for split in written]
        rng = generator(seed, "multimodal_hashing", "database")
        test = tuple(part[1].take(rng.permutation(len(part[1]))) for part in (spoken, written))
        return Modalities((spoken[0], written[0]), (test[0], test[1]), matched_rows(spoken[0], written[0], rng))


def matched_rows(first: Split, second: Split, rng: np.random.Generator) -> np.ndarray:
    """Return rows ``(P, 2)`` of equal labels, each sample at most once: what correlation analysis is given."""
    pairs = []
    for label in torch.unique(first.y).tolist():
        own = [rng.permutation(np.flatnonzero(split.y.numpy() == label)) for split in (first, second)]
        count = min(map(len, own))
        pairs.append(np.stack([rows[:count] for rows in own], 1))
    return np.concatenate(pairs)


EXPERIMENT = replace(
    OnSpeechAndDigits().experiment(),
    claim=(
        "Between spoken digits of unseen speakers and written digits, pairs within each modality improve retrieval, "
        "which is far better than with correlation analysis."
    ),
    notes=(
        "A spoken and a written digit belong together only by their label; correlation analysis is given random pairs "
        "of one label.",
        "Relevance is the label, so a classifier per modality whose decision is the code is the baseline to beat.",
    ),
)
