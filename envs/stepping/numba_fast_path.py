"""The fast path for walking: features, falls and reward in one compiled pass without intermediate arrays.

It fuses ``kernels.read_state`` with the loops of observation groups and reward, and reads no ground that it does not
need.
Results are identical up to rounding.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from policykd.envs.compiled import compiled
from policykd.envs.stepping.numba_kernels import SIGHT, Array, find, segment, walk_reward_of

_SURE = 1e-9
"""Height above the highest ground at which a point cannot touch, whatever the rounding, m."""
_QUARTER = math.pi / 2
_QUARTER_REST = math.cos(_QUARTER)  # pi / 2 minus its float64 value
_TERMS = 9
_SIN = np.array([(-1.0) ** k / math.factorial(2 * k + 1) for k in range(_TERMS)])
_COS = np.array([(-1.0) ** k / math.factorial(2 * k) for k in range(_TERMS)])


@numba.njit
def _turn(angle: Array, cosine: Array, sine: Array) -> None:
    """Compute cosines and sines (n,) of angles (n,), rad, in a loop that vectorizes, unlike one over libm's functions.

    Taylor series around the nearest quarter turn: within pi / 4 of it, the first omitted term is below 1e-17.
    """
    for k in range(len(angle)):
        turns = np.floor(angle[k] / _QUARTER + 0.5)
        x = angle[k] - turns * _QUARTER - turns * _QUARTER_REST
        y = x * x
        s, c = _SIN[_TERMS - 1], _COS[_TERMS - 1]
        for i in range(_TERMS - 2, -1, -1):
            s, c = s * y + _SIN[i], c * y + _COS[i]
        s *= x
        quarter = turns - 4.0 * np.floor(turns * 0.25)
        odd = quarter == 1.0 or quarter == 3.0
        a, b = (s, c) if odd else (c, s)
        cosine[k] = -a if quarter == 1.0 or quarter == 2.0 else a
        sine[k] = -b if quarter >= 2.0 else b


@numba.njit
def _turns(ids: Array, qpos: Array, parent: Array) -> Array:
    """Return cosines and sines (2, m, links) of the links' absolute angles in the simulations ``ids`` (m,)."""
    angle, turned = np.empty((len(ids), len(parent))), np.empty((2, len(ids), len(parent)))
    for k in range(len(ids)):
        angle[k, 0] = qpos[ids[k], 2]
        for j in range(1, len(parent)):
            angle[k, j] = qpos[ids[k], 2 + j] + angle[k, parent[j]]
    _turn(angle.reshape(-1), turned[0].reshape(-1), turned[1].reshape(-1))
    return turned


@numba.njit
def _chain(qvel: Array, cosine: Array, sine: Array, parent: Array, links: Array, frames: Array, out: Array) -> None:
    """Compute the links' frames (links, 5) of one robot: rate, and position and velocity relative to the root's joint.

    Centers of mass and their velocities are written to ``out`` (4 * links,): the features of ``proprio`` without the
    first.
    """
    count = len(parent)
    for k in range(count):
        rate, x, z, vx, vz = qvel[2 + k], 0.0, 0.0, 0.0, 0.0
        if k > 0:
            j = parent[k]
            up, c, s = frames[j], cosine[j], sine[j]
            rx, rz = c * links[k, 0] - s * links[k, 1], s * links[k, 0] + c * links[k, 1]
            rate, x, z, vx, vz = rate + up[0], up[1] + rx, up[2] + rz, up[3] - up[0] * rz, up[4] + up[0] * rx
        frame, c, s = frames[k], cosine[k], sine[k]
        frame[0], frame[1], frame[2], frame[3], frame[4] = rate, x, z, vx, vz
        rx, rz = c * links[k, 2] - s * links[k, 3], s * links[k, 2] + c * links[k, 3]
        out[2 * k], out[2 * k + 1] = x + rx, z + rz
        out[2 * (count + k)], out[2 * (count + k) + 1] = qvel[0] + vx - rate * rz, qvel[1] + vz + rate * rx


@numba.njit
def _scan(
    edge: Array, level: Array, slope: Array, x: float, at: int, ground: float, offsets: Array, out: Array
) -> None:
    """Compute the group ``terrain`` (samples,) at ``x``, which is in segment ``at``; see ``kernels.read_state``."""
    last = len(level) - 1
    near = segment(edge, x + offsets[0], at)
    start, height, grade, stop = edge[near], level[near], slope[near], edge[near + 1]
    for j in range(len(offsets)):
        place = x + offsets[j]
        while near < last and stop <= place:
            near += 1
            start, height, grade, stop = edge[near], level[near], slope[near], edge[near + 1]
        out[j] = height + (place - start) * grade - ground


@numba.njit
def _highest(edge: Array, level: Array, slope: Array, low: float, high: float, near: int) -> float:
    """Return an upper bound of the ground height between two positions; infinite beyond the end of the track."""
    if low < edge[0] or high >= edge[len(level)]:
        return np.inf
    i, top = segment(edge, low, near), -np.inf
    while i < len(level) and edge[i] <= high:
        top = max(top, level[i], level[i] + (edge[i + 1] - edge[i]) * slope[i])
        i += 1
    return top


@numba.njit
def _touches(edge: Array, level: Array, slope: Array, at: int, places: Array, points: Array) -> bool:
    """Return whether any of the fall points at ``places`` (points, 2) touches the ground."""
    low, high, bottom = np.inf, -np.inf, np.inf
    for j in range(len(places)):
        px = places[j, 0]
        low, high, bottom = min(low, px), max(high, px), min(bottom, places[j, 1] - points[j, 2])
    if bottom - _highest(edge, level, slope, low, high, at) > _SURE:
        return False
    near, touches = at, False
    for j in range(len(places)):
        px = places[j, 0]
        near = segment(edge, px, near)
        touches |= places[j, 1] - (level[near] + (px - edge[near]) * slope[near]) < points[j, 2]
    return touches


@compiled(f"void({SIGHT}, float64[::1], float64[::1], int64[::1], boolean[::1], float64[::1], float32[:, ::1])")
def fast_path(
    ids: Array, rows: Array, qpos: Array, qvel: Array, force: Array, parent: Array, links: Array,
    torque: Array, point_link: Array, points: Array, edges: Array, left: Array, grade: Array, offsets: Array,
    mass: Array, walk: Array, columns: Array, touching: Array, earned: Array, flat: Array,
) -> None:  # fmt: skip
    """Compute features, ground contact and reward of the simulations ``ids`` (m,).

    Args:
        ids: (m,) the simulations.
        rows: (n,) see :func:`kernels.read_state`, as for the arguments up to ``offsets``.
        qpos: (n, nq).
        qvel: (n, nv).
        force: (n, joints).
        parent: (links,).
        links: (links, 4).
        torque: (joints,).
        point_link: (points,).
        points: (points, 3).
        edges: (rows, S + 1).
        left: (rows, S).
        grade: (rows, S).
        offsets: (samples,).
        mass: (links,) fraction of the robot's mass in each link.
        walk: parameters of :class:`Walk`, its attributes in order.
        columns: (2,) first columns of the groups ``proprio`` and ``terrain`` in ``flat``; -1 for an absent group.
        touching: (m,) out: see :class:`View`.
        earned: (m,) out: reward before falls are taken into account.
        flat: (m, features) out: concatenated observation groups.
    """
    count, turned = len(parent), _turns(ids, qpos, parent)
    frames, places, body = np.empty((count, 5)), np.empty((len(points), 2)), np.empty(4 * count)
    for k in range(len(ids)):
        i = ids[k]
        edge, level, slope = edges[rows[i]], left[rows[i]], grade[rows[i]]
        x, z, c, s = qpos[i, 0], qpos[i, 1], turned[0, k], turned[1, k]
        _chain(qvel[i], c, s, parent, links, frames, body)
        at = find(edge, x)
        ground = level[at] + (x - edge[at]) * slope[at]
        if columns[0] >= 0:
            flat[k, columns[0]] = z - ground
            for j in range(4 * count):
                flat[k, columns[0] + 1 + j] = body[j]
        if columns[1] >= 0:
            _scan(edge, level, slope, x, at, ground, offsets, flat[k, columns[1] :])
        for j in range(len(points)):
            m, px, pz = point_link[j], points[j, 0], points[j, 1]
            places[j, 0] = x + frames[m, 1] + (c[m] * px - s[m] * pz)
            places[j, 1] = z + frames[m, 2] + (s[m] * px + c[m] * pz)
        touching[k] = _touches(edge, level, slope, at, places, points)
        speed, strain = 0.0, 0.0
        for j in range(count):
            speed += body[2 * (count + j)] * mass[j]
        for j in range(len(torque)):
            strain += (force[i, j] / torque[j]) ** 2
        earned[k] = walk_reward_of(speed, qpos[i, 2], strain / len(torque), walk)
