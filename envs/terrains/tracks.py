"""Tracks: the ground of every simulation as tensors, with their height function and ground boxes.

It computes heights and boxes; placing them in a simulation is the engine's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from policykd.envs.terrains.presets import Terrain
from policykd.envs.terrains.profiles import Profile
from policykd.envs.terrains.registry import draws_maps
from policykd.seeding import generator

BEHIND = 6.0
"""Level ground behind the start, m."""
START = 1.0
"""Level ground between the start and the terrain, m (TerrainRL)."""
LENGTH = 45.0
"""Shortest length of the terrain ahead of the start, m: reaching its end in 256 steps at 30 Hz takes 5.2 m/s."""
TOP_SPEED = 5.2
"""Speed up to which an episode of any length does not reach the end of the terrain, m/s."""

BASE_THICKNESS = 3.0
"""Thickness of the boxes under level ground, m; larger than the depth of any gap, so that gaps have solid walls."""
SLOPE_THICKNESS = 0.3
"""Thickness of the boxes under sloped ground, m; small, since the end of a tilted box overlaps its neighbor."""
HALF_DEPTH = 1.0
"""Half extent of the boxes across the track, m."""


@dataclass
class Tracks:
    """One track per row. Segment ``i`` spans ``edges[:, i]`` to ``edges[:, i + 1]``; heights in m above the start.

    Before the first edge and after the last one, the ground continues level.

    Attributes:
        edges: (n, S + 1) ascending positions of the segments' ends, m.
        left: (n, S) height at a segment's left end, m.
        grade: (n, S) rise over run of a segment.
    """

    edges: torch.Tensor
    left: torch.Tensor
    grade: torch.Tensor

    @property
    def segments(self) -> int:
        """Number of segments in a row."""
        return self.left.shape[1]

    def segment_at(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, q) indices of the segments under x (n, q); on a vertical edge, of the right-hand one."""
        return (torch.searchsorted(self.edges, x.contiguous(), right=True) - 1).clamp_(0, self.segments - 1)

    def height(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        """Return the ground height.

        Args:
            x: (n, q) positions along the tracks, m.
            y: positions across them, which do not matter.

        Returns:
            (n, q) heights, m.
        """
        i = self.segment_at(x)
        return self.left.gather(1, i) + (x - self.edges.gather(1, i)) * self.grade.gather(1, i)

    def rows(self, index: torch.Tensor | slice) -> Tracks:
        """Return the tracks of the given rows, (m,) integers; views for a slice."""
        return Tracks(self.edges[index], self.left[index], self.grade[index])

    def like(self, tensor: torch.Tensor) -> Tracks:
        """Return the tracks with the device and dtype of ``tensor``."""
        return Tracks(self.edges.to(tensor), self.left.to(tensor), self.grade.to(tensor))

    def assign(self, index: torch.Tensor, source: Tracks, rows: torch.Tensor) -> None:
        """Overwrite the rows ``index`` (m,) with the rows ``rows`` (m,) of ``source``."""
        self.edges[index] = source.edges[rows]
        self.left[index] = source.left[rows]
        self.grade[index] = source.grade[rows]

    def assign_where(self, mask: torch.Tensor, source: Tracks, rows: torch.Tensor) -> None:
        """Overwrite the rows that ``mask`` (n,) selects with the rows ``rows`` (n,) of ``source``, without waiting."""
        for mine, theirs in ((self.edges, source.edges), (self.left, source.left), (self.grade, source.grade)):
            mine.copy_(torch.where(mask[:, None], theirs[rows], mine))

    def boxes_from(self, x: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return boxes whose top faces are ``count`` consecutive segments.

        Args:
            x: (n,) positions on the first of the segments, m.
            count: segments per track; boxes of missing segments, and of segments without width, are parked far below.

        Returns:
            ``pose`` (n, count, 3) as (x, z, slope angle in rad, positive uphill) of the box centers, and ``half``
            (n, count, 2), half extents along and below the surface, m.
        """
        i = self.segment_at(x[:, None]) + torch.arange(count, device=x.device)
        last = self.segments - 1
        beyond, i = i > last, i.clamp_max(last)
        start, grade = self.edges.gather(1, i), self.grade.gather(1, i)
        half_width = (self.edges.gather(1, i + 1) - start) / 2
        angle = torch.atan(grade)
        c, s = torch.cos(angle), torch.sin(angle)
        half_thick = torch.full_like(grade, SLOPE_THICKNESS / 2).masked_fill_(grade == 0, BASE_THICKNESS / 2)
        z = self.left.gather(1, i) + grade * half_width - c * half_thick
        unused = beyond | (half_width <= 0)
        pose = torch.stack([start + half_width + s * half_thick, z.masked_fill_(unused, PARKED), angle], dim=2)
        half = torch.stack([(half_width / c).masked_fill_(unused, 0.01), half_thick], dim=2)
        return pose, half


PARKED = -1000.0
"""Height at which unused boxes are parked, m."""


def _tracks_from(profile: Profile, behind: float) -> Tracks:
    """Return tracks with level ground behind the start, before the profile and after it."""
    column = np.zeros((len(profile.width), 1))
    width = np.concatenate([column + behind + START, profile.width, column + 5.0], axis=1)
    rise = np.concatenate([column, profile.rise, column], axis=1)
    jump = np.concatenate([column, profile.jump, column], axis=1)
    edges = -behind + np.concatenate([column, np.cumsum(width, axis=1)], axis=1)
    left = np.cumsum(rise + jump, axis=1) - rise
    grade = np.divide(rise, width, out=np.zeros_like(rise), where=width > 0)
    return _without_empty(width > 0, edges, left, grade)


def _without_empty(real: np.ndarray, edges: np.ndarray, left: np.ndarray, grade: np.ndarray) -> Tracks:
    """Return tracks of the segments with a width; rows with fewer of them are padded with segments of width 0."""
    order = np.argsort(~real, axis=1, kind="stable")[:, : real.sum(axis=1).max()]
    kept, end, top = np.take_along_axis(real, order, axis=1), edges[:, -1:], left[:, -1:]
    starts = np.where(kept, np.take_along_axis(edges[:, :-1], order, axis=1), end)
    left = np.where(kept, np.take_along_axis(left, order, axis=1), top)
    grade = np.where(kept, np.take_along_axis(grade, order, axis=1), 0.0)
    return Tracks(*(torch.from_numpy(a) for a in (np.concatenate([starts, end], axis=1), left, grade)))


def _padded(tracks: Tracks, segments: int) -> Tracks:
    """Return the tracks padded with segments of width 0, up to ``segments``."""
    extra = segments - tracks.segments
    if extra == 0:
        return tracks
    last = tracks.left[:, -1:].expand(-1, extra)
    end = tracks.edges[:, -1:].expand(-1, extra)
    return Tracks(
        torch.cat([tracks.edges, end], dim=1),
        torch.cat([tracks.left, last], dim=1),
        torch.cat([tracks.grade, torch.zeros_like(last)], dim=1),
    )


GRADED = 0.5
"""Share of a graded terrain's tracks over which the difficulty rises; the other tracks have the full difficulty."""


_EASIEST = 0.4
"""Difficulty of the easiest track at the lowest levels, as a share of the level."""


def graded_shares(count: int) -> np.ndarray:
    """Return the (count,) difficulties of a graded terrain's tracks as shares of its own."""
    return np.minimum(np.arange(1, count + 1) / (GRADED * count), 1.0)


_FLOOR = 0.9


def graded_floor(terrains: Sequence[Terrain]) -> float:
    """Return the lowest floor of the terrains: the difficulty of the easiest track at level 1, as a share."""
    return min(terrain.kind.floor for terrain in terrains)


def graded_rows(count: int, level: float, floor: float = _FLOOR) -> tuple[int, int]:
    """Return the rows of a graded terrain's tracks that belong to a curriculum level.

    Low levels mix difficulties from nearly half of the level upward. The highest level has only tracks from ``floor``
    upward, so that training ends on the difficulty of the evaluation.

    Args:
        count: tracks of the terrain.
        level: difficulty of the hardest track, as a share of the terrain's own in [0, 1].
        floor: difficulty of the easiest track at level 1, as a share of the terrain's own.

    Returns:
        The first row, and the row after the last one.
    """
    rising = GRADED * count
    last = count if level >= 1.0 else max(1, round(level * rising))
    return min(int(level * (_EASIEST + (floor - _EASIEST) * level) * rising), last - 1), last


class TrackBank:
    """Tracks generated in advance, ``per_terrain`` of each terrain, from which resets pick.

    Generating them in advance keeps the generators out of the step loop; a reset copies one row.

    Args:
        terrains: the terrains; equal ones share their tracks.
        per_terrain: tracks of each terrain.
        seed: seed of the bank; banks of different seeds hold different tracks.
        graded: sort a terrain's tracks by difficulties that rise from 0 to the terrain's own; see :func:`graded_rows`.
        seconds: longest episode, s; tracks are as long as its distance at ``TOP_SPEED``, and at least ``LENGTH``.
        scale: factor of all sizes, of the features and of the level ground, for robots with other legs.
        backwards: make the level ground behind the start as long as the track, for tasks that walk backward.
        device: device of the tensors.

    Attributes:
        tracks: all tracks; terrain ``t`` has rows ``t * per_terrain`` to ``(t + 1) * per_terrain``.
        terrains: the terrains in that order.
    """

    def __init__(
        self,
        terrains: Sequence[Terrain],
        per_terrain: int,
        seed: int,
        *,
        graded: bool = False,
        seconds: float = 0.0,
        backwards: bool = False,
        scale: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.terrains, self.per_terrain = tuple(terrains), per_terrain
        length = max(LENGTH, TOP_SPEED * seconds)
        behind = length if backwards else BEHIND
        drawn = [self._draw(terrain, per_terrain, seed, graded, length, behind) for terrain in self.terrains]
        most = max(t.segments for t in drawn)
        padded = [_padded(t, most) for t in drawn]
        self.tracks = Tracks(
            torch.cat([t.edges for t in padded]).to(device) * scale,
            torch.cat([t.left for t in padded]).to(device) * scale,
            torch.cat([t.grade for t in padded]).to(device),
        )

    @staticmethod
    def _draw(terrain: Terrain, count: int, seed: int, graded: bool, length: float, behind: float) -> Tracks:
        rng = generator(seed, "tracks", terrain.preset, terrain.name)
        share = graded_shares(count)[:, None] if graded else np.ones((count, 1))
        assert not draws_maps(terrain.generator)  # those are in a MapBank
        profile = terrain.generator.profile(rng, count, length, terrain.difficulty * share)
        return _tracks_from(profile, behind)

    def most_segments_within(self, width: float) -> int:
        """Return the largest number of segments that a window of ``width`` m can touch, over all tracks."""
        edges = self.tracks.edges
        real = (edges[:, 1:] > edges[:, :-1]).long()
        before = torch.nn.functional.pad(real.cumsum(1), (1, 0))
        last = self.tracks.segment_at(edges[:, :-1] + width)
        from_an_edge = int((before.gather(1, last + 1) - before[:, :-1]).max())
        return min(from_an_edge + 1, self.tracks.segments)  # one more if the window begins inside a segment
