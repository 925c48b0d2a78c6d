"""Ditches: gaps in any direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policykd.envs.terrains.generators import Gaps, Range
from policykd.envs.terrains.map import Difficulty, Map
from policykd.envs.terrains.registry import register_terrain
from policykd.envs.terrains.strips import strips


@dataclass(frozen=True)
class Ditches:
    """Parallel gaps that cross the map at an angle.

    Attributes:
        run: distance between two gaps, leg lengths.
        width: width of a gap, leg lengths.
        depth: depth of a gap, leg lengths; not scaled by difficulty.
        yaw: largest angle between the gaps and a line across the map, degrees.
    """

    run: Range = (2.5, 3.2)
    width: Range = (0.32, 0.38)
    depth: Range = (1.1, 1.15)
    yaw: float = 35.0

    @property
    def smallest(self) -> float:
        """Smallest feature, leg lengths."""
        return self.width[0]

    def map(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Map:
        """Draw maps; see :class:`MapGenerator`."""
        yaw = np.radians(rng.uniform(-self.yaw, self.yaw, count))
        return strips(Gaps(self.run, self.width, self.depth).profile(rng, count, length, difficulty), yaw)


register_terrain("ditches", {"default": Ditches()}, start_level=0.3)
