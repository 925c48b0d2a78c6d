"""Beams: planks over pits, from platform to platform."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policykd.envs.terrains.generators import Range
from policykd.envs.terrains.map import HALF_WIDTH, Difficulty, Map, panel
from policykd.envs.terrains.registry import register_terrain


@dataclass(frozen=True)
class Beams:
    """Platforms with a pit after each, and a plank that leads over it.

    Attributes:
        platform: length of a platform, leg lengths.
        pit: length of a pit, leg lengths.
        width: width of a plank, leg lengths; at lower difficulties it grows to that of the map.
        aside: largest distance of a plank's center from the middle of the map, leg lengths.
        yaw: largest angle between a plank and the map, degrees.
        depth: depth of the pits, leg lengths; not scaled by difficulty.
    """

    platform: Range = (2.5, 3.5)
    pit: Range = (4.0, 6.0)
    width: Range = (0.95, 1.1)
    aside: float = 0.25
    yaw: float = 6.0
    depth: float = 1.1

    @property
    def smallest(self) -> float:
        """Smallest feature, leg lengths."""
        return self.width[0]

    def map(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Map:
        """Draw maps; see :class:`MapGenerator`."""
        shape, whole = (count, math.ceil(length / (self.platform[0] + self.pit[0]))), 2 * HALF_WIDTH
        platform, pit = rng.uniform(*self.platform, shape), rng.uniform(*self.pit, shape)
        end = np.cumsum(platform + pit, axis=1)
        width = whole * (rng.uniform(*self.width, shape) / whole) ** difficulty
        yaw = np.radians(difficulty * rng.uniform(-self.yaw, self.yaw, shape))
        y = difficulty * rng.uniform(-self.aside, self.aside, shape)
        floor = np.full(count, -self.depth)
        reach = pit / np.cos(yaw) + width * np.abs(np.tan(yaw))  # a turned plank reaches both platforms on both sides
        planks = Map.of(floor, end - pit / 2, y, 0.0, reach, width, yaw)
        return panel(floor, end - pit - platform, end - pit).plus(planks)


register_terrain("beams", {"default": Beams()}, start_level=0.4)
