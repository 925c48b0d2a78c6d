"""The ground in the compiled loops of robots in space: heights, scans, and the windows of ground boxes.

Tracks and maps share one table, so that the loops are compiled once; the part of the other kind is empty.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from policykd.envs.compiled import compiled_at_first_use
from policykd.envs.stepping.numba_kernels import Array, find, place_boxes, segment
from policykd.envs.terrains import Maps, Tracks
from policykd.envs.terrains.map_kernels import COLUMNS, height_at, place_window, scan_map


class GroundTable(NamedTuple):
    """The bank of tracks or maps, the row of every simulation, and the scanners; see :class:`Tracks`, :class:`Maps`.

    Attributes:
        edges: (rows, S + 1) ends of the segments of tracks, m.
        left: (rows, S) heights at their left ends, m.
        grade: (rows, S) rise over run.
        mapped: whether the ground is maps.
        boxes: (rows, k, COLUMNS) boxes of maps.
        used: (rows,) numbers of boxes that count.
        floor: (rows,) heights of the ground where there is not a box, m.
        starts: first entry of every cell of the boxes' index.
        items: its entries.
        grid: (5,) its corner, cells per meter, cells along x and across.
        row: (n,) row of each simulation.
        line: (points, 2) samples of the scanner along the heading, ahead and to the left, m.
        area: (samples, 2) samples of the scanner of an area, ahead and to the left, m.
    """

    edges: Array
    left: Array
    grade: Array
    mapped: bool
    boxes: Array
    used: Array
    floor: Array
    starts: Array
    items: Array
    grid: Array
    row: Array
    line: Array
    area: Array


def ground_table(ground: Tracks | Maps, row: Array, line: Array, area: Array) -> GroundTable:
    """Return the table of a bank for simulations with rows ``row`` (n,) and scanners with (points, 2) samples, m."""
    if isinstance(ground, Maps):
        none, cells = np.zeros((1, 1)), ground.cells
        boxes, used, floor = (part.contiguous().numpy() for part in (ground.boxes, ground.used, ground.floor))
        index = (cells.starts.numpy(), cells.items.numpy(), cells.grid.numpy())
        return GroundTable(none, none, none, True, boxes, used, floor, *index, row, line, area)
    edges, left, grade = (part.contiguous().numpy() for part in (ground.edges, ground.left, ground.grade))
    starts, items = np.zeros(1, np.int32), np.zeros(0, np.int32)
    empty = (np.zeros((0, 1, COLUMNS)), np.zeros(0, np.int64), np.zeros(0), starts, items, np.zeros(5))
    return GroundTable(edges, left, grade, False, *empty, row, line, area)


@numba.njit
def segment_under(ground: GroundTable, row: int, x: float) -> int:
    """Return the segment of a track at x; 0 on maps."""
    return 0 if ground.mapped else find(ground.edges[row], x)


@numba.njit(inline="always")
def write_heights(ground: GroundTable, row: int, near: int, places: Array, out: Array) -> None:
    """Write the heights (m,) of the ground at places (m, 2); ``near`` is a segment of the track nearby.

    Callers collect the places of a simulation, since passing a table costs more than finding a height.
    """
    if ground.mapped:
        boxes, floor, starts, items, grid = ground.boxes, ground.floor[row], ground.starts, ground.items, ground.grid
        for j in range(len(places)):
            out[j] = height_at(boxes, floor, starts, items, grid, row, places[j, 0], places[j, 1])
    else:
        edges, left, grade, i, last = ground.edges, ground.left, ground.grade, near, ground.left.shape[1] - 1
        for j in range(len(places)):
            x = places[j, 0]
            while i < last and edges[row, i + 1] <= x:
                i += 1
            while i > 0 and edges[row, i] > x:
                i -= 1
            out[j] = left[row, i] + (x - edges[row, i]) * grade[row, i]


@numba.njit
def scan_line(
    ground: GroundTable, row: int, x: float, y: float, z: float, cosine: float, sine: float, at: int, out: Array
) -> None:
    """Write heights of the samples along the heading, from the height z of the base."""
    if ground.mapped:
        _scan_map(ground, row, x, y, z, cosine, sine, ground.line, out)
        return
    edge, level, slope, offsets = ground.edges[row], ground.left[row], ground.grade[row], ground.line
    last = len(level) - 1
    near = segment(edge, x + cosine * offsets[0, 0], at)
    for j in range(len(offsets)):
        place = x + cosine * offsets[j, 0]
        while near < last and edge[near + 1] <= place:
            near += 1
        while near > 0 and edge[near] > place:
            near -= 1
        out[j] = level[near] + (place - edge[near]) * slope[near] - z


@numba.njit
def scan_area(
    ground: GroundTable, row: int, x: float, y: float, z: float, cosine: float, sine: float, at: int, out: Array
) -> None:
    """Write heights of the samples of an area in the heading frame, from the height z of the base."""
    if ground.mapped:
        _scan_map(ground, row, x, y, z, cosine, sine, ground.area, out)
        return
    edge, level, slope, samples = ground.edges[row], ground.left[row], ground.grade[row], ground.area
    for j in range(len(samples)):
        place = x + cosine * samples[j, 0] - sine * samples[j, 1]
        at = segment(edge, place, at)
        out[j] = level[at] + (place - edge[at]) * slope[at] - z


@numba.njit
def _scan_map(
    ground: GroundTable, row: int, x: float, y: float, z: float, cosine: float, sine: float, samples: Array, out: Array
) -> None:
    scan_map(
        ground.boxes, ground.floor[row], ground.starts, ground.items, ground.grid, row, x, y, cosine, sine, samples, z,
        out,
    )  # fmt: skip


@compiled_at_first_use(strided=("qpos",))
def move_windows(
    qpos: Array, center: Array, y: Array, slack: float, behind: float, ground: GroundTable, ids: Array, pose: Array,
    half: Array, lane: Array,
) -> int:  # fmt: skip
    """Move the windows on tracks whose robot is farther than ``slack`` from their center, along or across the track.

    Args:
        qpos: (n, nq) generalized positions.
        center: (n,) in and out: centers of the windows along the track, m.
        y: (n,) in and out: centers of the windows across the track, m.
        slack: largest distance from the center at which a window is not moved, m.
        behind: extent of a window behind its center, and to both sides, m.
        ground: the ground.
        ids: (n,) out: the simulations whose windows moved, in the first rows.
        pose: (n, boxes, 3) out: see :meth:`Tracks.boxes_from`.
        half: (n, boxes, 2) out: see :meth:`Tracks.boxes_from`.
        lane: (n, 2) out: center across the track and half width, m.

    Returns:
        Number of moved windows.
    """
    moved = 0
    for i in range(len(center)):
        if abs(qpos[i, 0] - center[i]) > slack or abs(qpos[i, 1] - y[i]) > slack:
            center[i], y[i], ids[moved], row = qpos[i, 0], qpos[i, 1], i, ground.row[i]
            lane[moved, 0], lane[moved, 1] = y[i], behind
            place_boxes(
                ground.edges[row], ground.left[row], ground.grade[row], center[i] - behind, pose[moved], half[moved]
            )
            moved += 1
    return moved


@compiled_at_first_use(strided=("qpos",))
def move_map_windows(
    qpos: Array, x: Array, y: Array, step: float, slack: float, half_edge: float, thickness: float,
    ground: GroundTable, ids: Array, center: Array, turn: Array, half: Array,
) -> int:  # fmt: skip
    """Move the windows on maps whose robot is farther than ``slack`` from their center, along x or y.

    Args:
        qpos: (n, nq) generalized positions.
        x: (n,) in and out: centers of the windows along the map, m.
        y: (n,) in and out: centers of the windows across it, m.
        step: centers are at multiples of this plus one half, m.
        slack: see :class:`policykd.envs.terrains.map_bank.Window`.
        half_edge: half edge of a window, m.
        thickness: thickness of the floor's box, m.
        ground: the ground.
        ids: (n,) out: the simulations whose windows moved, in the first rows.
        center: (n, pool, 3) out: see :meth:`Maps.boxes_around`.
        turn: (n, pool, 2) out: see :meth:`Maps.boxes_around`.
        half: (n, pool, 3) out: see :meth:`Maps.boxes_around`.

    Returns:
        Number of moved windows.
    """
    moved = 0
    for i in range(len(x)):
        if abs(qpos[i, 0] - x[i]) > slack or abs(qpos[i, 1] - y[i]) > slack:
            x[i], y[i] = (np.floor(qpos[i, 0] / step) + 0.5) * step, (np.floor(qpos[i, 1] / step) + 0.5) * step
            ids[moved], row = i, ground.row[i]
            place_window(
                ground.boxes[row], ground.used[row], ground.floor[row], x[i], y[i], half_edge, thickness,
                center[moved], turn[moved], half[moved],
            )  # fmt: skip
            moved += 1
    return moved
