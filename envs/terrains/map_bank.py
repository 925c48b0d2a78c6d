"""Maps of many simulations as tensors, with their height function and ground boxes; the counterpart of ``tracks``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from policykd.envs.robots.spatial import PRESET_LEG
from policykd.envs.terrains.map import HALF_WIDTH, Map, panel
from policykd.envs.terrains.map_kernels import index_cells, most_in_windows
from policykd.envs.terrains.map_windows import place_windows
from policykd.envs.terrains.presets import Terrain
from policykd.envs.terrains.profiles import Profile
from policykd.envs.terrains.registry import draws_maps
from policykd.envs.terrains.strips import strips
from policykd.envs.terrains.tracks import BEHIND, START, graded_shares
from policykd.errors import ConfigError
from policykd.seeding import generator

_BEFORE, _START, _AFTER = BEHIND / PRESET_LEG, START / PRESET_LEG, 10.0  # level ground, leg lengths
_SPEED = 1.2  # speed up to which an episode does not reach the end of a map, square roots of gravity times leg length
_GRAVITY = 9.81
_THICKNESS = 0.5  # thickness of boxes below the floor, leg lengths
_SLOPE_THICKNESS = 0.38  # thickness of sloped boxes, leg lengths; their ends overlap their neighbors
_THIN = 1e-6  # level boxes that rise less than this above the floor are left out, leg lengths
_CELL = 0.75  # edge of a cell of the index, leg lengths
_STEP, _SLACK, _MARGIN = 0.25, 0.2, 0.15  # distance of windows, way off their center, way of one step, leg lengths


class Window(NamedTuple):
    """The moving window of ground boxes under a robot.

    Attributes:
        step: windows are centered at multiples of this plus one half, in x and y, m.
        slack: distance of the base from the center, along x or y, at which the window moves, m.
        half: half edge of the square window, m.
        thickness: thickness of the floor's box, m.
    """

    step: float
    slack: float
    half: float
    thickness: float

    @classmethod
    def under(cls, reach: float, leg: float) -> Window:
        """Return the window of a robot whose feet reach ``reach`` m from its base, with legs of ``leg`` m."""
        return cls(_STEP * leg, _SLACK * leg, reach + (_SLACK + _MARGIN) * leg, _THICKNESS * leg)

    def snap(self, place: torch.Tensor) -> torch.Tensor:
        """Return the centers (m, 2) of the windows of robots at ``place`` (m, 2)."""
        return (torch.floor(place / self.step) + 0.5) * self.step


class CellIndex(NamedTuple):
    """The boxes of all maps by place; see :func:`policykd.envs.terrains.map_kernels.height_at`.

    Attributes:
        starts: (rows * cells + 1,) first entry of every cell.
        items: boxes of the cells, one cell after the other.
        grid: (5,) x and y of the grid's corner, m, cells per meter, cells along x and across.
        most: largest number of entries of a cell.
    """

    starts: torch.Tensor
    items: torch.Tensor
    grid: torch.Tensor
    most: int


@dataclass
class Maps:
    """One map per row. Rows share the boxes of their bank, which nothing writes to.

    Attributes:
        boxes: (bank rows, k, 11) boxes; see :mod:`policykd.envs.terrains.map_kernels`.
        used: (bank rows,) number of boxes that count.
        floor: (bank rows,) height of the ground where there is not a box, m.
        cells: index of the boxes by place.
        row: (n,) row of the bank.
    """

    boxes: torch.Tensor
    used: torch.Tensor
    floor: torch.Tensor
    cells: CellIndex
    row: torch.Tensor

    def rows(self, index: torch.Tensor | slice) -> Maps:
        """Return the maps of the given rows, (m,) integers."""
        return replace(self, row=self.row[index])

    def like(self, tensor: torch.Tensor) -> Maps:
        """Return the maps with the device and dtype of ``tensor``."""
        starts, items, grid, most = self.cells
        # The grid stays on the host, which reads it for every height.
        cells = CellIndex(starts.to(tensor.device), items.to(tensor.device), grid.to(tensor.dtype), most)
        used, row = self.used.to(tensor.device), self.row.to(tensor.device)
        return Maps(self.boxes.to(tensor), used, self.floor.to(tensor), cells, row)

    def assign_where(self, mask: torch.Tensor, source: Maps, rows: torch.Tensor) -> None:
        """Overwrite the rows that ``mask`` (n,) selects with the rows ``rows`` (n,) of ``source``, without waiting."""
        self.row.copy_(torch.where(mask, source.row[rows], self.row))

    def assign(self, index: torch.Tensor, source: Maps, rows: torch.Tensor) -> None:
        """Overwrite the rows ``index`` (m,) with the rows ``rows`` (m,) of ``source``, maps of the same bank."""
        self.row[index] = source.row[rows]

    def height(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        """Return the ground height: where a ray from above meets the highest box, or the floor.

        Args:
            x: (n, q) places along the maps, m.
            y: (n, q) places across them, m; None for their middle.

        Returns:
            (n, q) heights, m.
        """
        y = torch.zeros_like(x) if y is None else y
        left, low, dense, along, across = self.cells.grid.tolist()
        i, j = torch.floor((x - left) * dense).long(), torch.floor((y - low) * dense).long()
        inside = (i >= 0) & (j >= 0) & (i < along) & (j < across)
        cell = (self.row[:, None] * int(along) + i) * int(across) + j
        cell = cell.where(inside, torch.zeros_like(cell))
        first, last = self.cells.starts[cell], self.cells.starts[cell + 1]
        entry = first[..., None] + torch.arange(self.cells.most, device=x.device)
        valid = inside[..., None] & (entry < last[..., None])
        item = self.cells.items[entry.clamp_max(len(self.cells.items) - 1)]
        found = _surface(self.boxes[self.row[:, None, None], item], x[..., None], y[..., None])
        floor = self.floor[self.row][:, None].expand_as(x)
        if not found.shape[-1]:
            return floor.clone()
        return torch.maximum(found.masked_fill(~valid, -torch.inf).amax(-1), floor)

    def boxes_around(
        self, place: torch.Tensor, window: Window, pool: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the ground boxes of windows.

        Args:
            place: (n, 2) centers of the windows, m.
            window: their sizes.
            pool: boxes of a simulation.

        Returns:
            ``center`` (n, pool, 3) in m, ``turn`` (n, pool, 2), yaw and pitch in rad, ``half`` (n, pool, 3) in m.
        """
        of = self.row
        return place_windows(self.boxes[of], self.used[of], self.floor[of], place, window.half, window.thickness, pool)


def _surface(box: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return where rays from above meet boxes (..., 11), -inf where they miss; see ``map_kernels.surface``."""
    mx, my, mz, length, width, depth, cy, sy, c, s, _ = box.unbind(-1)
    right, left = x - mx, y - my
    along, across = cy * right + sy * left, cy * left - sy * right
    level = s == 0
    divisor = torch.where(level, torch.ones_like(s), s)
    top, bottom = (depth + s * along) / c, (s * along - depth) / c
    one, other = (length - c * along) / divisor, (-length - c * along) / divisor
    high = torch.where(level, depth, torch.minimum(top, torch.maximum(one, other)))
    low = torch.where(level, -depth, torch.maximum(bottom, torch.minimum(one, other)))
    hits = (across.abs() <= width) & (high >= low) & (~level | (along.abs() <= length))
    return torch.where(hits, mz + high, torch.full_like(high, -torch.inf))


class MapBank:
    """Maps drawn in advance, ``per_terrain`` of each terrain, from which resets pick; see :class:`TrackBank`.

    Terrains that vary along x only become maps of strips, so that one environment can have both kinds.

    Args:
        terrains: the terrains.
        per_terrain: maps of each terrain.
        seed: seed of the bank.
        leg: leg length of the robot, m.
        reach: largest distance of its feet from its base along x or y, m.
        graded: sort a terrain's maps by difficulties that rise from 0 to the terrain's own.
        seconds: longest episode, s; maps are as long as its distance at a fast run.
        backwards: make the level ground behind the start as long as the map, for tasks that walk backward.

    Attributes:
        tracks: all maps; terrain ``t`` has rows ``t * per_terrain`` to ``(t + 1) * per_terrain``.
        terrains: the terrains in that order.
        window: the moving window of ground boxes.
    """

    def __init__(
        self,
        terrains: Sequence[Terrain],
        per_terrain: int,
        seed: int,
        *,
        leg: float,
        reach: float,
        graded: bool = False,
        seconds: float = 0.0,
        backwards: bool = False,
    ) -> None:
        self.terrains, self.per_terrain, self.window = tuple(terrains), per_terrain, Window.under(reach, leg)
        length = _SPEED * seconds * (_GRAVITY / leg) ** 0.5
        behind = max(_BEFORE, length if backwards else 0.0)
        drawn = [_boxes_of(_draw(terrain, per_terrain, seed, graded, length, behind)) for terrain in self.terrains]
        used, floor = (np.concatenate([part[i] for part in drawn]) for i in (1, 2))
        most = max(1, int(used.max()))
        boxes = np.concatenate([_padded(part[0], most) for part in drawn])
        boxes[:, :, [0, 1, 2, 3, 4, 5, 10]] *= leg
        cells = _index(boxes, used, _CELL * leg)
        kept, numbers, low = (torch.from_numpy(part) for part in (boxes, used, floor * leg))
        self.tracks = Maps(kept, numbers, low, cells, torch.arange(len(boxes)))

    def pool(self) -> int:
        """Return the largest number of ground boxes that a window needs, over all maps."""
        boxes, used = self.tracks.boxes.numpy(), self.tracks.used.numpy()
        return 1 + most_in_windows(boxes, used, self.window.step, self.window.half)


def _draw(terrain: Terrain, count: int, seed: int, graded: bool, length: float, behind: float) -> Map:
    """Return maps with level ground before the start and after the end."""
    rng = generator(seed, "tracks", terrain.preset, terrain.name)
    difficulty = terrain.difficulty * (graded_shares(count)[:, None] if graded else np.ones((count, 1)))
    if draws_maps(terrain.generator):
        drawn = terrain.generator.map(rng, count, length, difficulty)
    else:
        profile = terrain.generator.profile(rng, count, length * PRESET_LEG, difficulty)
        sizes = (part / PRESET_LEG for part in (profile.width, profile.rise, profile.jump))
        drawn = strips(Profile(*sizes), np.zeros(count))
    if drawn.x.shape[0] != count:
        raise ConfigError(f"the generator of terrain {terrain.name} drew {drawn.x.shape[0]} maps instead of {count}")
    moved = drawn.moved(np.full(count, _START))
    end = np.maximum(moved.end, _START)[:, None]
    level = panel(moved.floor, np.full((count, 1), -behind), np.full((count, 1), _START))
    return moved.plus(level, panel(moved.floor, end, end + _AFTER))


def _boxes_of(ground: Map) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes (count, k, 11), the used ones first, their numbers (count,) and the floors, leg lengths."""
    floor, tilted = ground.floor[:, None], ground.pitch != 0
    real = (ground.length > 0) & (ground.width > 0) & (tilted | (ground.top > floor + _THIN))
    real &= np.abs(ground.y) - (ground.length + ground.width) / 2 < HALF_WIDTH  # the others are off the map
    thick = np.where(tilted, _SLOPE_THICKNESS, ground.top - floor + _THICKNESS)
    c, s = np.where(tilted, np.cos(ground.pitch), 1.0), np.where(tilted, np.sin(ground.pitch), 0.0)
    cosine, sine = np.cos(ground.yaw), np.sin(ground.yaw)
    x, y = ground.x + cosine * s * thick / 2, ground.y + sine * s * thick / 2
    peak = ground.top + np.abs(s) * ground.length / 2 + 1e-9  # rounding must not hide a point below it
    columns = (
        x, y, ground.top - c * thick / 2, ground.length / 2, ground.width / 2, thick / 2, cosine, sine, c, s, peak
    )  # fmt: skip
    boxes = np.stack(columns, axis=2)
    used = real.sum(axis=1)
    order = np.argsort(np.where(real, -peak, np.inf), axis=1, kind="stable")[:, : max(1, used.max(initial=0))]
    return np.take_along_axis(boxes, order[:, :, None], axis=1), used, ground.floor


def _padded(boxes: np.ndarray, most: int) -> np.ndarray:
    return np.pad(boxes, ((0, 0), (0, max(0, most - boxes.shape[1])), (0, 0)))[:, :most]


def _index(boxes: np.ndarray, used: np.ndarray, size: float) -> CellIndex:
    """Return the index of the boxes by square cells of ``size`` m that cover all of them."""
    real = boxes[np.arange(boxes.shape[1]) < used[:, None]]
    real = real if len(real) else np.zeros((1, boxes.shape[2]))  # flat maps: one cell without boxes
    far = np.hypot(real[:, 3] + real[:, 5], real[:, 4])[:, None]
    low, high = (real[:, :2] - far).min(axis=0), (real[:, :2] + far).max(axis=0)
    grid = np.array([*low, 1.0 / size, *np.maximum(np.ceil((high - low) / size), 1.0)])
    starts = np.zeros(len(boxes) * int(grid[3] * grid[4]) + 1, dtype=np.int32)
    items = np.empty(index_cells(boxes, used, grid, starts, np.empty(0, dtype=np.int32)), dtype=np.int32)
    index_cells(boxes, used, grid, starts, items)
    most = int(np.diff(starts).max())
    return CellIndex(torch.from_numpy(starts), torch.from_numpy(items), torch.from_numpy(grid), most)
