"""Waves: hills and valleys in any direction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from policykd.envs.terrains.generators import Range
from policykd.envs.terrains.map import Difficulty, Map
from policykd.envs.terrains.profiles import Profile
from policykd.envs.terrains.registry import register_terrain
from policykd.envs.terrains.strips import strips


@dataclass(frozen=True)
class Waves:
    """Parallel waves, of straight pieces between points of a cosine.

    Attributes:
        length: length of a wave, drawn once per map, leg lengths.
        height: height of a crest above a valley, drawn once per map, leg lengths.
        pieces: pieces of a wave.
        yaw: largest angle between the waves' direction and the map, degrees.
    """

    length: Range = (4.0, 6.0)
    height: Range = (0.5, 0.7)
    pieces: int = 10
    yaw: float = 40.0

    def map(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Map:
        """Draw maps; see :class:`MapGenerator`."""
        total = self.pieces * math.ceil(length / self.length[0])
        wave, height = rng.uniform(*self.length, (count, 1)), difficulty * rng.uniform(*self.height, (count, 1))
        yaw = np.radians(rng.uniform(-self.yaw, self.yaw, count))
        level = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(total + 1) / self.pieces)
        rise = height * np.diff(level)
        return strips(Profile(np.broadcast_to(wave / self.pieces, rise.shape), rise, np.zeros_like(rise)), yaw)


register_terrain("waves", {"default": Waves()}, start_level=0.3)
