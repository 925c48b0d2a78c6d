"""Barriers: low walls in any direction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policykd.envs.terrains.generators import Range
from policykd.envs.terrains.map import HALF_WIDTH, Difficulty, Map
from policykd.envs.terrains.registry import register_terrain


@dataclass(frozen=True)
class Barriers:
    """Walls across the map to step over, each at its own angle.

    Attributes:
        run: distance between two walls in the middle of the map, leg lengths.
        height: height of a wall, leg lengths.
        thickness: thickness of a wall, leg lengths; not scaled by difficulty.
        yaw: largest angle between a wall and a line across the map, degrees.
    """

    run: Range = (3.0, 4.5)
    height: Range = (0.2, 0.42)
    thickness: Range = (0.35, 0.5)
    yaw: float = 35.0

    @property
    def smallest(self) -> float:
        """Smallest feature, leg lengths."""
        return self.thickness[0]

    def map(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Map:
        """Draw maps; see :class:`MapGenerator`."""
        shape = (count, math.ceil(length / self.run[0]))
        x = HALF_WIDTH * math.tan(math.radians(self.yaw)) + np.cumsum(rng.uniform(*self.run, shape), axis=1)
        yaw = np.radians(rng.uniform(-self.yaw, self.yaw, shape))
        top, thickness = difficulty * rng.uniform(*self.height, shape), rng.uniform(*self.thickness, shape)
        return Map.of(np.zeros(count), x, 0.0, top, thickness, 2 * HALF_WIDTH / np.cos(yaw), yaw)


register_terrain("barriers", {"default": Barriers()}, start_level=0.3, floor=0.6)
