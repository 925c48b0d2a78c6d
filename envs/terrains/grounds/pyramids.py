"""Pyramids: slopes on four sides, to climb or as pits to cross."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policykd.envs.terrains.generators import Range
from policykd.envs.terrains.map import Difficulty, Map, panel
from policykd.envs.terrains.pyramids import PyramidRow, pyramid_rows, square
from policykd.envs.terrains.registry import register_terrain

_STRIPS = 5
"""Strips of a slope of a pyramid to climb; boxes cannot meet in a sloped edge, so its edges are notched."""


@dataclass(frozen=True)
class Pyramids:
    """Pyramids with sloped sides in a row, each at random one to climb or a pit to cross.

    Attributes:
        angle: inclination of the sides, drawn once per pyramid, degrees.
        run: horizontal extent of a side, leg lengths.
        platform: edge of the square platform at the top or bottom, leg lengths.
        landing: level ground before each pyramid, leg lengths.
        yaw: largest angle between a pyramid to climb and the map, degrees; pits are parallel to the map.
        aside: largest distance of a pyramid's center from the middle of the map, leg lengths.
    """

    angle: Range = (20.0, 25.0)
    run: Range = (3.0, 4.0)
    platform: Range = (1.6, 2.2)
    landing: Range = (1.5, 2.5)
    yaw: float = 30.0
    aside: float = 1.0

    def map(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Map:
        """Draw maps; see :class:`MapGenerator`."""
        shape = (count, math.ceil(length / (self.platform[0] + 2 * self.run[0] + self.landing[0])))
        angle = np.radians(difficulty * rng.uniform(*self.angle, shape))
        run, inner = rng.uniform(*self.run, shape), rng.uniform(*self.platform, shape) / 2
        row, height = pyramid_rows(rng, inner + run, self.landing, self.yaw, self.aside), run * np.tan(angle)
        floor = np.where(row.up, 0.0, -height).min(axis=1)
        parts = [panel(floor, row.start, row.foot), panel(floor, row.foot, np.where(row.up, row.end, row.foot))]
        for j in range(_STRIPS):
            far, near = (inner + run * (1 - share / _STRIPS) for share in (j, j + 1))
            parts.append(square(floor, row, far, height * j / _STRIPS).kept(row.up))
            parts += [part.kept(row.up) for part in _sides(floor, row, near, far, height * (j + 0.5) / _STRIPS, -angle)]
        parts.append(square(floor, row, inner, height).kept(row.up))
        parts += [part.kept(~row.up) for part in _sides(floor, row, row.half, inner, -height / 2, angle)]
        parts.append(square(floor, row, inner, -height).kept(~row.up))
        return parts[0].plus(*parts[1:], *row.rims(floor))


def _sides(
    floor: np.ndarray, row: PyramidRow, width: np.ndarray, other: np.ndarray, top: np.ndarray, pitch: np.ndarray
) -> list[Map]:
    """Return four sloped boxes between the distances ``width`` and ``other`` from the centers, ``2 * width`` wide."""
    found, away, length = [], (width + other) / 2, np.abs(width - other) / np.cos(pitch)
    for quarter in range(4):
        yaw = row.yaw + quarter * math.pi / 2
        x, y = row.x + away * np.cos(yaw), row.y + away * np.sin(yaw)
        found.append(Map.of(floor, x, y, top, length, 2 * width, yaw, pitch))
    return found


register_terrain("pyramids", {"default": Pyramids()}, start_level=0.3)
