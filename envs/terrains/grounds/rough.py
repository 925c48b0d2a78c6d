"""Rough ground: square tiles of random heights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policykd.envs.terrains.map import HALF_WIDTH, Difficulty, Map
from policykd.envs.terrains.registry import register_terrain


@dataclass(frozen=True)
class Rough:
    """Tiles side by side, each at a random height.

    Attributes:
        tile: edge of a tile, leg lengths.
        height: largest distance of a tile from the middle height, leg lengths.
    """

    tile: float = 0.75
    height: float = 0.14

    @property
    def smallest(self) -> float:
        """Smallest feature, leg lengths."""
        return self.tile

    def map(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Map:
        """Draw maps; see :class:`MapGenerator`."""
        along, across = math.ceil(length / self.tile), 2 * math.ceil(HALF_WIDTH / self.tile)
        largest = self.height * np.broadcast_to(difficulty, (count, 1))
        top = largest * rng.uniform(-1.0, 1.0, (count, along * across))
        i, j = (index.ravel() for index in np.mgrid[:along, :across])
        x, y = (i + 0.5) * self.tile, (j + 0.5 - across / 2) * self.tile
        return Map.of(-largest[:, 0], x, y, top, self.tile, self.tile)


register_terrain("rough", {"default": Rough()}, start_level=0.3)
