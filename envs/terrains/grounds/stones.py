"""Stepping stones over a pit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policykd.envs.terrains.generators import Range
from policykd.envs.terrains.map import HALF_WIDTH, Difficulty, Map
from policykd.envs.terrains.registry import register_terrain


@dataclass(frozen=True)
class Stones:
    """Square stones in a grid with gaps between them, some of them higher than others.

    Attributes:
        size: edge of a stone, leg lengths.
        gap: gap between neighbors, drawn once per map, leg lengths.
        height: largest distance of a stone from the middle height, leg lengths.
        jitter: largest displacement of a stone, as a share of half of the gap.
        depth: depth of the pit, leg lengths; not scaled by difficulty.
    """

    size: float = 0.9
    gap: Range = (0.36, 0.42)
    height: float = 0.1
    jitter: float = 0.15
    depth: float = 1.1

    @property
    def smallest(self) -> float:
        """Smallest feature, leg lengths."""
        return min(self.size, self.gap[0] * (1.0 - self.jitter))

    def map(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Map:
        """Draw maps; see :class:`MapGenerator`."""
        along, across = math.ceil(length / self.size), 2 * math.ceil(HALF_WIDTH / self.size)
        shape = (count, along * across)
        gap = difficulty * rng.uniform(*self.gap, (count, 1))
        shift = rng.uniform(-0.5, 0.5, (2, *shape)) * self.jitter * gap
        i, j = (index.ravel() for index in np.mgrid[:along, :across])
        pitch = self.size + gap
        x, y = (i + 0.5) * pitch + gap / 2 + shift[0], (j + 0.5 - across / 2) * pitch + shift[1]
        aside = rng.uniform(-0.5, 0.5, (count, along))[:, i] * gap  # rows are displaced against each other
        top = self.height * difficulty * rng.uniform(-1.0, 1.0, shape)
        return Map.of(np.full(count, -self.depth), x, y + aside, top, self.size, self.size)


register_terrain("stones", {"default": Stones()}, start_level=0.2)
