"""Pyramids in a row along a map, to climb or as pits: their places, and the boxes that all of them share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policykd.envs.terrains.map import HALF_WIDTH, Map

_BEYOND = 3.0  # how far the level ground next to a pit reaches beyond the map, leg lengths


@dataclass(frozen=True)
class PyramidRow:
    """Pyramids of ``count`` maps, (count, n) arrays in leg lengths, rad.

    Attributes:
        up: whether a pyramid is one to climb; otherwise it is a pit.
        x: centers along the map.
        y: centers across it.
        half: half edges of their outlines.
        yaw: angles between the pyramids and the map, 0 for pits.
        start: where the level ground before a pyramid begins.
        foot: where a pyramid begins.
        end: where it ends.
    """

    up: np.ndarray
    x: np.ndarray
    y: np.ndarray
    half: np.ndarray
    yaw: np.ndarray
    start: np.ndarray
    foot: np.ndarray
    end: np.ndarray

    def rims(self, floor: np.ndarray) -> list[Map]:
        """Return the level ground on both sides of the pits."""
        edge = HALF_WIDTH + _BEYOND
        found = []
        for side in (-1.0, 1.0):
            inside = side * self.y + self.half  # distance of the pit's side from the middle of the map
            width = np.maximum(edge - inside, 0.0)
            y, keep = side * (inside + width / 2), ~self.up & (width > 0)
            found.append(Map.of(floor, self.x, y, 0.0, 2 * self.half, width).kept(keep))
        return found


def pyramid_rows(
    rng: np.random.Generator, half: np.ndarray, landing: tuple[float, float], yaw: float, aside: float
) -> PyramidRow:
    """Place pyramids one behind the other.

    Args:
        rng: source of randomness.
        half: (count, n) half edges of the pyramids, leg lengths.
        landing: range of the level ground before each, leg lengths.
        yaw: largest angle between a pyramid to climb and the map, degrees.
        aside: largest distance of a center from the middle of the map, leg lengths.
    """
    up, turn = rng.random(half.shape) < 0.5, np.radians(rng.uniform(-yaw, yaw, half.shape))
    turn = np.where(up, turn, 0.0)
    reach = half * (np.cos(turn) + np.abs(np.sin(turn)))
    level = rng.uniform(*landing, half.shape)
    end = np.cumsum(level + 2 * reach, axis=1)
    y = rng.uniform(-aside, aside, half.shape)
    foot = end - 2 * reach
    return PyramidRow(up, end - reach, y, half, turn, foot - level, foot, end)


def square(floor: np.ndarray, row: PyramidRow, half: np.ndarray, top: np.ndarray) -> Map:
    """Return one level square per pyramid, with half edges ``half`` and its top at ``top``, (count, n) each."""
    return Map.of(floor, row.x, row.y, top, 2 * half, 2 * half, row.yaw)
