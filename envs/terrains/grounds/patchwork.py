"""Patchwork: portions of other maps one behind the other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from policykd.envs.terrains.grounds.barriers import Barriers
from policykd.envs.terrains.grounds.obstacles import Obstacles
from policykd.envs.terrains.grounds.rough import Rough
from policykd.envs.terrains.grounds.stairs import PyramidStairs
from policykd.envs.terrains.grounds.stones import Stones
from policykd.envs.terrains.map import Difficulty, Map, MapGenerator, panel
from policykd.envs.terrains.registry import register_terrain


@dataclass(frozen=True)
class Patchwork:
    """Portions of other grounds in random order, with level ground between them.

    Attributes:
        portions: generators of the portions, drawn with equal probability.
        portion: shortest length of a portion, leg lengths.
        lip: level ground before each portion, leg lengths.
    """

    portions: tuple[MapGenerator, ...] = field(
        default_factory=lambda: (Rough(), Stones(), Obstacles(), Barriers(yaw=15.0), PyramidStairs(steps=2, yaw=0.0))
    )
    portion: float = 9.0
    lip: float = 2.0

    @property
    def smallest(self) -> float | None:
        """Smallest feature of any portion, leg lengths."""
        sizes = [getattr(generator, "smallest", None) for generator in self.portions]
        return min((size for size in sizes if size is not None), default=None)

    def map(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Map:
        """Draw maps; see :class:`MapGenerator`."""
        parts: list[Map] = []
        starts, at = [], np.zeros(count)
        for _ in range(math.ceil(length / (self.portion + self.lip))):
            drawn = [generator.map(rng, count, self.portion, difficulty) for generator in self.portions]
            parts.append(Map.where(rng.integers(len(drawn), size=count), drawn))
            starts.append(at)
            at = at + self.lip + parts[-1].end
        floor = np.min([part.floor for part in parts], axis=0)
        whole = Map.of(floor, np.zeros((count, 0)), 0.0, 0.0, 0.0, 0.0)
        for start, part in zip(starts, parts, strict=True):
            lip = panel(floor, start[:, None], start[:, None] + self.lip)
            whole = whole.plus(lip, part.covered(np.zeros(count), part.end, floor).moved(start + self.lip))
        return whole


register_terrain("patchwork", {"default": Patchwork()}, start_level=0.2)
