"""Windows of ground boxes under many robots on any device; :func:`map_kernels.place_window` for tensors.

Nothing here waits for the device: how many boxes a window needs is known there only, so the rest of the pool is parked.
"""

from __future__ import annotations

import math

import torch

from policykd.envs.terrains.map_kernels import PARKED, TIGHT


def place_windows(
    boxes: torch.Tensor,
    used: torch.Tensor,
    floor: torch.Tensor,
    place: torch.Tensor,
    half: float,
    thickness: float,
    pool: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the ground boxes of n simulations: the floor, then every box of the map that overlaps the window.

    Args:
        boxes: (n, k, COLUMNS) boxes of each simulation's map.
        used: (n,) numbers of boxes that count.
        floor: (n,) heights of the floors, m.
        place: (n, 2) centers of the windows, m.
        half: half edge of a window, m.
        thickness: thickness of the floor's box, m.
        pool: boxes of a simulation, at least as many as a window needs.

    Returns:
        ``center`` (n, pool, 3) in m, ``turn`` (n, pool, 2), yaw and pitch in rad, ``half`` (n, pool, 3) in m.
    """
    n, most = boxes.shape[:2]
    inside, low, high, near, far = _cut(boxes, place, half)
    inside &= torch.arange(most, device=boxes.device) < used[:, None]
    x, y, z, _, _, depth, cy, sy, c, s, _ = boxes.unbind(-1)
    u, v = (low + high) / 2, (near + far) / 2
    centers = torch.stack([x + cy * c * u - sy * v, y + sy * c * u + cy * v, z + s * u], dim=-1)
    turns = torch.stack([torch.atan2(sy, cy), torch.atan2(s, c)], dim=-1)
    sizes = torch.stack([(high - low) / 2, (far - near) / 2, depth], dim=-1)

    parked = torch.cat([place, torch.full_like(place[:, :1], PARKED)], dim=1)
    center = parked[:, None].repeat(1, pool + 1, 1)
    center[:, 0, 2] = floor - thickness / 2
    turn, size = boxes.new_zeros(n, pool + 1, 2), boxes.new_full((n, pool + 1, 3), 0.01)
    size[:, 0, :2].fill_(half)  # numbers: a tensor of them would be copied from the host
    size[:, 0, 2].fill_(thickness / 2)
    # The i-th box of a window goes to place i of the pool; the others to the place after the last, which is cut off.
    target = inside.cumsum(dim=1).clamp(max=pool).masked_fill(~inside, pool)
    for whole, part in ((center, centers), (turn, turns), (size, sizes)):
        whole.scatter_(1, target[..., None].expand_as(part), part)
    return center[:, :pool], turn[:, :pool], size[:, :pool]


def _cut(
    boxes: torch.Tensor, place: torch.Tensor, half: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return which boxes overlap the windows, and the spans (n, k) along and across them that are near a window."""
    x, y, _, length, width, depth, cy, sy, c, s, _ = boxes.unbind(-1)
    circle = half * math.sqrt(2.0)
    beyond, along = depth * s.abs(), length * c + depth * s.abs()
    right, left = place[:, :1] - x, place[:, 1:] - y
    ahead, aside = cy * right + sy * left, cy * left - sy * right
    far_x, far_y = along * cy.abs() + width * sy.abs(), along * sy.abs() + width * cy.abs()
    size = half * (cy.abs() + sy.abs()) + TIGHT
    overlaps = (right.abs() <= far_x + half + TIGHT) & (left.abs() <= far_y + half + TIGHT)
    overlaps &= (ahead.abs() <= along + size) & (aside.abs() <= width + size)
    divisor = torch.where(c == 0, torch.ones_like(c), c)  # rows that do not count are all zero
    low = torch.maximum(-length, (ahead - circle - beyond) / divisor)
    high = torch.minimum(length, (ahead + circle + beyond) / divisor)
    near, far = torch.maximum(-width, aside - circle), torch.minimum(width, aside + circle)
    return overlaps & (low < high) & (near < far), low, high, near, far
