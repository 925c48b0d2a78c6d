"""Stairs: pyramids of stairs that go up and then down, or down into a pit and up again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policykd.envs.terrains.generators import Range
from policykd.envs.terrains.map import Difficulty, Map, panel
from policykd.envs.terrains.pyramids import PyramidRow, pyramid_rows, square
from policykd.envs.terrains.registry import register_terrain


@dataclass(frozen=True)
class PyramidStairs:
    """Pyramids of stairs in a row, each at random one to climb or a pit to cross.

    Attributes:
        rise: height of a stair, drawn once per pyramid, leg lengths.
        tread: depth of a stair, drawn once per pyramid, leg lengths.
        steps: number of stairs of a pyramid.
        platform: edge of the square platform at the top or bottom, leg lengths.
        landing: level ground before each pyramid, leg lengths.
        yaw: largest angle between a pyramid to climb and the map, degrees; pits are parallel to the map.
        aside: largest distance of a pyramid's center from the middle of the map, leg lengths.
    """

    rise: Range = (0.35, 0.52)
    tread: Range = (1.0, 1.2)
    steps: int = 4
    platform: Range = (1.6, 2.2)
    landing: Range = (1.5, 2.5)
    yaw: float = 30.0
    aside: float = 1.0

    @property
    def smallest(self) -> float:
        """Smallest feature, leg lengths."""
        return min(self.tread[0], self.platform[0])

    def map(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Map:
        """Draw maps; see :class:`MapGenerator`."""
        shortest = self.platform[0] + 2 * (self.steps - 1) * self.tread[0] + self.landing[0]
        shape = (count, math.ceil(length / shortest))
        rise, tread = difficulty * rng.uniform(*self.rise, shape), rng.uniform(*self.tread, shape)
        inner = rng.uniform(*self.platform, shape) / 2
        row = pyramid_rows(rng, inner + (self.steps - 1) * tread, self.landing, self.yaw, self.aside)
        deepest = np.where(row.up, 0.0, -self.steps * rise).min(axis=1)
        parts = [panel(deepest, row.start, row.foot), panel(deepest, row.foot, np.where(row.up, row.end, row.foot))]
        for k in range(1, self.steps + 1):
            half = inner + (self.steps - k) * tread
            parts.append(square(deepest, row, half, k * rise).kept(row.up))
            parts += self._ring(deepest, row, half, half - tread, -k * rise) if k < self.steps else []
        parts.append(square(deepest, row, inner, -self.steps * rise).kept(~row.up))
        parts += row.rims(deepest)
        return parts[0].plus(*parts[1:])

    @staticmethod
    def _ring(floor: np.ndarray, row: PyramidRow, outer: np.ndarray, inner: np.ndarray, top: np.ndarray) -> list[Map]:
        """Return the four boxes of one level of a pit, between two squares."""
        middle, depth, nothing = (outer + inner) / 2, outer - inner, 0.0 * outer
        sides = ((middle, nothing, depth, 2 * outer), (-middle, nothing, depth, 2 * outer),
                 (nothing, middle, 2 * inner, depth), (nothing, -middle, 2 * inner, depth))  # fmt: skip
        return [Map.of(floor, row.x + x, row.y + y, top, a, b).kept(~row.up) for x, y, a, b in sides]


register_terrain("stairs", {"default": PyramidStairs()}, start_level=0.1)
