"""The compiled loops over the boxes of maps: heights, the index of boxes by place, windows under a robot.

A box is a row of :data:`COLUMNS` numbers: its center (x, y, z), its half extents along its direction, across it and
below its surface, cosine and sine of its yaw and of its pitch, and the height of its highest point. The boxes of a map
are sorted by that height, the highest first, so that a ray can pass over those that are lower than what it has met.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from policykd.envs.compiled import compiled_at_first_use

COLUMNS = 11
"""Numbers of a box."""

Array = np.ndarray[Any, Any]

TIGHT = 1e-9
"""Boxes that miss a square by less than this count as touching it, m."""


@numba.njit
def surface(boxes: Array, row: int, k: int, x: float, y: float) -> float:
    """Return the height at which a ray from above meets box ``k`` of map ``row``; -inf if it misses."""
    right, left, cy, sy = x - boxes[row, k, 0], y - boxes[row, k, 1], boxes[row, k, 6], boxes[row, k, 7]
    along, across, half = cy * right + sy * left, cy * left - sy * right, boxes[row, k, 3]
    depth, s = boxes[row, k, 5], boxes[row, k, 9]
    if abs(across) > boxes[row, k, 4]:
        return -math.inf
    if s == 0.0:
        return boxes[row, k, 2] + depth if abs(along) <= half else -math.inf
    # The ray is in the box where it is between both of its ends and below its surface.
    c = boxes[row, k, 8]
    top, bottom = (depth + s * along) / c, (s * along - depth) / c
    one, other = (half - c * along) / s, (-half - c * along) / s
    top, bottom = min(top, max(one, other)), max(bottom, min(one, other))
    return boxes[row, k, 2] + top if top >= bottom else -math.inf


@numba.njit
def height_at(
    boxes: Array, floor: float, starts: Array, items: Array, grid: Array, row: int, x: float, y: float
) -> float:
    """Return the height of a map at a place.

    Args:
        boxes: (rows, k, COLUMNS) boxes of all maps.
        floor: height of the ground where there is not a box.
        starts: (rows * cells + 1,) first entry of every cell in ``items``.
        items: boxes of the cells, one cell after the other.
        grid: x and y of the grid's corner, cells per meter, cells along x and across.
        row: the map.
        x: place along the map, m.
        y: place across the map, m.
    """
    u, v = (x - grid[0]) * grid[2], (y - grid[1]) * grid[2]
    along, across = int(grid[3]), int(grid[4])
    found = floor
    if not (0.0 <= u < along and 0.0 <= v < across):
        return found
    cell = (row * along + int(u)) * across + int(v)
    for k in range(starts[cell], starts[cell + 1]):
        if boxes[row, items[k], 10] <= found:
            break
        found = max(found, surface(boxes, row, items[k], x, y))
    return found


@numba.njit
def scan_map(
    boxes: Array, floor: float, starts: Array, items: Array, grid: Array, row: int, x: float, y: float, cosine: float,
    sine: float, samples: Array, z: float, out: Array,
) -> None:  # fmt: skip
    """Write heights from ``z`` at samples (n, 2), ahead of a place and to its left in a frame turned by an angle."""
    for j in range(len(samples)):
        ahead, aside = samples[j, 0], samples[j, 1]
        place_x, place_y = x + cosine * ahead - sine * aside, y + sine * ahead + cosine * aside
        out[j] = height_at(boxes, floor, starts, items, grid, row, place_x, place_y) - z


@numba.njit
def reach_of(box: Array) -> tuple[float, float, float]:
    """Return how far a box reaches from its center along its direction, horizontally, and along x and y."""
    along = box[3] * box[8] + box[5] * abs(box[9])
    return along, abs(box[6]) * along + abs(box[7]) * box[4], abs(box[7]) * along + abs(box[6]) * box[4]


@numba.njit
def overlaps(box: Array, x: float, y: float, half: float) -> bool:
    """Return whether the outline of a box and a square with center (x, y) and half edge ``half`` overlap."""
    along, far_x, far_y = reach_of(box)
    right, left = x - box[0], y - box[1]
    if abs(right) > far_x + half + TIGHT or abs(left) > far_y + half + TIGHT:
        return False
    size = half * (abs(box[6]) + abs(box[7])) + TIGHT
    ahead, aside = box[6] * right + box[7] * left, box[6] * left - box[7] * right
    return abs(ahead) <= along + size and abs(aside) <= box[4] + size


@compiled_at_first_use
def index_cells(boxes: Array, used: Array, grid: Array, starts: Array, items: Array) -> int:
    """Find the boxes of every cell.

    Args:
        boxes: (rows, k, COLUMNS) boxes of all maps.
        used: (rows,) number of boxes of each map.
        grid: see :func:`height_at`.
        starts: (rows * cells + 1,) out: numbers of entries (if ``items`` is empty), then their sums.
        items: out: the boxes of the cells; empty to count them first.

    Returns:
        Number of entries.
    """
    size, along, across = 1.0 / grid[2], int(grid[3]), int(grid[4])
    counting = len(items) == 0
    fill = np.zeros(along * across, np.int64)
    for row in range(len(boxes)):
        fill[:] = 0
        for k in range(used[row]):
            box = boxes[row, k]
            _, far_x, far_y = reach_of(box)
            first_i = max(0, math.floor((box[0] - far_x - grid[0]) * grid[2] - TIGHT))
            last_i = min(along - 1, math.floor((box[0] + far_x - grid[0]) * grid[2] + TIGHT))
            first_j = max(0, math.floor((box[1] - far_y - grid[1]) * grid[2] - TIGHT))
            last_j = min(across - 1, math.floor((box[1] + far_y - grid[1]) * grid[2] + TIGHT))
            for i in range(first_i, last_i + 1):
                for j in range(first_j, last_j + 1):
                    if overlaps(box, grid[0] + (i + 0.5) * size, grid[1] + (j + 0.5) * size, 0.5 * size):
                        cell = i * across + j
                        if counting:
                            starts[row * along * across + cell + 1] += 1
                        else:
                            items[starts[row * along * across + cell] + fill[cell]] = k
                            fill[cell] += 1
    if counting:
        for cell in range(len(starts) - 1):
            starts[cell + 1] += starts[cell]
    return int(starts[-1])


@numba.njit
def _overlapped(box: Array, x: float, half: float) -> tuple[float, float]:
    """Return the range of y for which a square with center (x, y) overlaps a box, as :func:`overlaps` says."""
    along, far_x, far_y = reach_of(box)
    right, size = x - box[0], half * (abs(box[6]) + abs(box[7])) + 2 * TIGHT
    low, high = -far_y - half - 2 * TIGHT, far_y + half + 2 * TIGHT
    if abs(right) > far_x + half + 2 * TIGHT:
        return 1.0, 0.0
    for slope, offset, limit in ((box[7], box[6] * right, along + size), (box[6], -box[7] * right, box[4] + size)):
        if abs(slope) < 1e-12:
            if abs(offset) > limit:
                return 1.0, 0.0
            continue
        one, other = (limit - offset) / slope, (-limit - offset) / slope
        low, high = max(low, min(one, other)), min(high, max(one, other))
    return box[1] + low, box[1] + high


@compiled_at_first_use
def most_in_windows(boxes: Array, used: Array, step: float, half: float) -> int:
    """Return the largest number of boxes of a map that overlap a window.

    Args:
        boxes: (rows, k, COLUMNS) boxes of all maps.
        used: (rows,) number of boxes of each map.
        step: distance of the windows' centers, m; they are at (i + 0.5, j + 0.5) steps.
        half: half edge of a window, m.
    """
    most = 0
    for row in range(len(boxes)):
        low_i, high_i, low_j, high_j = 0, 0, 0, 0
        for k in range(used[row]):
            box = boxes[row, k]
            _, far_x, far_y = reach_of(box)
            low_i = min(low_i, math.floor((box[0] - far_x - half) / step) - 1)
            high_i = max(high_i, math.floor((box[0] + far_x + half) / step) + 1)
            low_j = min(low_j, math.floor((box[1] - far_y - half) / step) - 1)
            high_j = max(high_j, math.floor((box[1] + far_y + half) / step) + 1)
        # Entries are changes from one window to the next across the map; sums over them give the counts.
        counts = np.zeros((high_i - low_i + 1, high_j - low_j + 2), np.int32)
        for k in range(used[row]):
            box = boxes[row, k]
            _, far_x, _ = reach_of(box)
            for i in range(math.floor((box[0] - far_x - half) / step) - 1,
                           math.floor((box[0] + far_x + half) / step) + 2):  # fmt: skip
                low, high = _overlapped(box, (i + 0.5) * step, half)
                first, last = math.ceil(low / step - 0.5), math.floor(high / step - 0.5)
                if first <= last:
                    counts[i - low_i, first - low_j] += 1
                    counts[i - low_i, last - low_j + 1] -= 1
        for i in range(len(counts)):
            now = 0
            for j in range(counts.shape[1]):
                now += counts[i, j]
                most = max(most, now)
    return most


@numba.njit
def place_window(
    boxes: Array, used: int, floor: float, x: float, y: float, half: float, thickness: float, center: Array,
    turn: Array, size: Array,
) -> int:  # fmt: skip
    """Compute the ground boxes of one simulation: the floor, then every box of the map that overlaps its window.

    Boxes are cut to the surroundings of the window, so that the bounding spheres of the large ones stay small.

    Args:
        boxes: (k, COLUMNS) boxes of the map.
        used: number of boxes that count.
        floor: height of the map's floor, m.
        x: center of the window along the map, m.
        y: center of the window across it, m.
        half: half edge of the window, m.
        thickness: thickness of the floor's box, m.
        center: (pool, 3) out: centers, m.
        turn: (pool, 2) out: yaw and pitch, rad.
        size: (pool, 3) out: half extents, m.

    Returns:
        Number of used boxes of the pool; the others are parked.
    """
    center[0, 0], center[0, 1], center[0, 2] = x, y, floor - 0.5 * thickness
    turn[0, 0], turn[0, 1] = 0.0, 0.0
    size[0, 0], size[0, 1], size[0, 2] = half, half, 0.5 * thickness
    count, circle = 1, half * math.sqrt(2.0)
    for k in range(used):
        box = boxes[k]
        if not overlaps(box, x, y, half):
            continue
        c, s = box[8], box[9]
        right, left = x - box[0], y - box[1]
        ahead, aside = box[6] * right + box[7] * left, box[6] * left - box[7] * right
        beyond = box[5] * abs(s)  # the surface and the underside of a tilted box are displaced against each other
        low, high = max(-box[3], (ahead - circle - beyond) / c), min(box[3], (ahead + circle + beyond) / c)
        near, far = max(-box[4], aside - circle), min(box[4], aside + circle)
        if low >= high or near >= far:
            continue
        u, v = 0.5 * (low + high), 0.5 * (near + far)
        center[count, 0] = box[0] + box[6] * c * u - box[7] * v
        center[count, 1] = box[1] + box[7] * c * u + box[6] * v
        center[count, 2] = box[2] + s * u
        turn[count, 0], turn[count, 1] = math.atan2(box[7], box[6]), math.atan2(s, c)
        size[count, 0], size[count, 1], size[count, 2] = 0.5 * (high - low), 0.5 * (far - near), box[5]
        count += 1
    for k in range(count, len(center)):
        center[k, 0], center[k, 1], center[k, 2] = x, y, PARKED
        turn[k, 0], turn[k, 1] = 0.0, 0.0
        size[k, 0], size[k, 1], size[k, 2] = 0.01, 0.01, 0.01
    return count


PARKED = -1000.0
"""Height at which unused boxes are parked, m."""
