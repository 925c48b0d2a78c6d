"""Obstacles: blocks of random size, height and direction on level ground."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policykd.envs.terrains.generators import Range
from policykd.envs.terrains.map import HALF_WIDTH, Difficulty, Map
from policykd.envs.terrains.registry import register_terrain


@dataclass(frozen=True)
class Obstacles:
    """One block in every square of a grid.

    Attributes:
        spacing: edge of a square of the grid, leg lengths.
        size: length and width of a block, leg lengths.
        height: height of a block, leg lengths.
    """

    spacing: float = 2.5
    size: Range = (0.7, 2.0)
    height: Range = (0.1, 0.45)

    @property
    def smallest(self) -> float:
        """Smallest feature, leg lengths."""
        return self.size[0]

    def map(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Map:
        """Draw maps; see :class:`MapGenerator`."""
        along, across = math.ceil(length / self.spacing), 2 * math.ceil(HALF_WIDTH / self.spacing)
        shape, far = (count, along * across), self.size[1] / math.sqrt(2)  # half of the longest diagonal
        i, j = (index.ravel() for index in np.mgrid[:along, :across])
        shift = rng.uniform(-0.5, 0.5, (2, *shape)) * self.spacing
        x, y = (i + 0.5) * self.spacing + shift[0], (j + 0.5 - across / 2) * self.spacing + shift[1]
        size, yaw = rng.uniform(*self.size, (2, *shape)), rng.uniform(0.0, math.pi, shape)
        top = difficulty * rng.uniform(*self.height, shape)
        return Map.of(np.zeros(count), np.maximum(x, far), y, top, size[0], size[1], yaw)


register_terrain("obstacles", {"default": Obstacles()}, start_level=0.2)
