"""Maps: ground that varies in x and y, as boxes whose union it is.

Generators of :mod:`policykd.envs.terrains.grounds` return them; sizes are leg lengths of the robot, so that one ground
serves robots of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

HALF_WIDTH = 4.0
"""Half of the width of a map, leg lengths: robots keep to its middle. Beyond it the ground is at the map's floor."""

Difficulty = float | np.ndarray
"""One difficulty for all maps, or one per map as a column (count, 1)."""


class MapGenerator(Protocol):
    """Parameters of a ground with a method that draws maps.

    A generator with vertical edges should also have ``smallest``, the smallest extent along the ground of its features
    and of the holes between them at full difficulty, leg lengths: scanners must be finer than half of it.
    """

    def map(self, rng: np.random.Generator, count: int, length: float, difficulty: Difficulty) -> Map:
        """Draw ``count`` maps.

        Args:
            rng: source of randomness.
            count: number of maps.
            length: extent along x that the ground must cover from x = 0, leg lengths; across, it must cover
                ``HALF_WIDTH`` to both sides. Level ground of height 0 comes before and after it.
            difficulty: size of the features in [0, 1], for all maps or per map; 0 is flat.

        Returns:
            The boxes.
        """
        ...


@dataclass(frozen=True)
class Map:
    """``count`` maps of some boxes each; the ground is the highest of their surfaces, or the floor. Leg lengths, rad.

    Attributes:
        x: (count, boxes) centers of the top faces along the map.
        y: (count, boxes) centers of the top faces across it.
        top: (count, boxes) heights of these centers.
        length: (count, boxes) extents of the top faces along their direction, on the surface; boxes of 0 are ignored.
        width: (count, boxes) extents across it.
        yaw: (count, boxes) angles between the x axis and the directions.
        pitch: (count, boxes) slope angles along the directions, positive uphill.
        floor: (count,) heights of the ground where there is not a box; level boxes reach down below it.
    """

    x: np.ndarray
    y: np.ndarray
    top: np.ndarray
    length: np.ndarray
    width: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    floor: np.ndarray

    @classmethod
    def of(
        cls, floor: np.ndarray, x: Any, y: Any, top: Any, length: Any, width: Any, yaw: Any = 0.0, pitch: Any = 0.0
    ) -> Map:
        """Return maps whose boxes are given by arrays that broadcast to (count, boxes); ``floor`` is (count,)."""
        count = np.zeros((len(floor), 1))
        x, y, top, length, width, yaw, pitch = np.broadcast_arrays(count + x, y, top, length, width, yaw, pitch)
        return cls(x, y, top, length, width, yaw, pitch, floor)

    @classmethod
    def level(cls, count: int) -> Map:
        """Return ``count`` maps without boxes, with the floor at height 0."""
        return cls.of(np.zeros(count), np.zeros((count, 0)), 0.0, 0.0, 0.0, 0.0)

    @property
    def end(self) -> np.ndarray:
        """(count,) where the last box ends along x."""
        along, across = self.length * np.cos(self.pitch) * np.abs(np.cos(self.yaw)), np.abs(np.sin(self.yaw))
        ends = self.x + np.where(self.length > 0, (along + self.width * across) / 2, 0.0)
        return np.asarray(np.where(self.length > 0, ends, 0.0).max(axis=1, initial=0.0))

    def plus(self, *others: Map) -> Map:
        """Return the maps with the boxes of others added; the floor is the lowest one."""
        parts = (self, *others)
        boxes = {name: np.concatenate([getattr(part, name) for part in parts], axis=1) for name in _BOX_FIELDS}
        return Map(**boxes, floor=np.min([part.floor for part in parts], axis=0))

    def kept(self, which: np.ndarray) -> Map:
        """Return the maps without the boxes where ``which`` (count, boxes) is False."""
        return self._with(length=np.where(which, self.length, 0.0))

    def moved(self, x: np.ndarray) -> Map:
        """Return the maps moved along x by ``x`` (count,)."""
        return self._with(x=self.x + np.asarray(x)[:, None])

    def covered(self, start: np.ndarray, end: np.ndarray, floor: np.ndarray) -> Map:
        """Return the maps with a lower floor (count,): from ``start`` to ``end`` (count,) a box keeps the old one."""
        lid = Map.of(
            floor, ((start + end) / 2)[:, None], 0.0, self.floor[:, None], (end - start)[:, None], 2 * HALF_WIDTH
        )
        real = (self.pitch != 0) | (self.top > self.floor[:, None])
        return self.kept(real)._with(floor=floor).plus(lid)

    @classmethod
    def where(cls, choice: np.ndarray, options: Sequence[Map]) -> Map:
        """Return, per row, the option with the index ``choice`` (count,)."""
        boxes = max(o.x.shape[1] for o in options)

        def pick(name: str) -> np.ndarray:
            padded = [np.pad(getattr(o, name), ((0, 0), (0, boxes - o.x.shape[1]))) for o in options]
            return np.asarray(np.stack(padded)[choice, np.arange(len(choice))])

        floor = np.stack([o.floor for o in options])[choice, np.arange(len(choice))]
        return cls(**{name: pick(name) for name in _BOX_FIELDS}, floor=floor)

    def _with(self, **changes: np.ndarray) -> Map:
        return Map(**{field.name: changes.get(field.name, getattr(self, field.name)) for field in fields(self)})


_BOX_FIELDS = tuple(field.name for field in fields(Map) if field.name != "floor")


def panel(floor: np.ndarray, start: Any, end: Any, top: Any = 0.0) -> Map:
    """Return boxes across the whole map from ``start`` to ``end``, with their tops at ``top``; (count, boxes) each."""
    start, end = np.asarray(start), np.asarray(end)
    return Map.of(floor, (start + end) / 2, 0.0, top, end - start, 2 * HALF_WIDTH)
