"""The compiled loops of the Numba backend, each one pass over the simulations.

The arithmetic is that of ``kinematics`` and ``tracks`` in torch, except for the order of some sums.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from policykd.envs.compiled import compiled
from policykd.envs.terrains.tracks import BASE_THICKNESS, PARKED, SLOPE_THICKNESS

Array = np.ndarray


@numba.njit
def segment(edges: Array, x: float, near: int) -> int:
    """Return the index of the segment under x (on a vertical edge the right-hand one), searching from ``near``."""
    i, last = near, len(edges) - 2
    while i < last and edges[i + 1] <= x:
        i += 1
    while i > 0 and edges[i] > x:
        i -= 1
    return i


@numba.njit
def find(edges: Array, x: float) -> int:
    """Return the index of the segment under x (on a vertical edge the right-hand one) by bisection."""
    low, high = 0, len(edges) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if edges[middle] <= x:
            low = middle
        else:
            high = middle
    return low


@numba.njit
def _chain(qpos: Array, qvel: Array, parent: Array, links: Array, frames: Array, com: Array, velocity: Array) -> None:
    """Compute frames and centers of mass of the links of one robot.

    Args:
        qpos: (nq,) generalized positions.
        qvel: (nv,) generalized velocities.
        parent: (links,) index of the parent.
        links: (links, 4) anchor and center of mass, x and z, m.
        frames: (links, 8) out: angle, rate, cosine, sine, and the joint's position and velocity relative to the root's.
        com: (links, 2) out: ``com`` of :class:`PlanarState`.
        velocity: (links, 2) out: ``com_velocity`` of :class:`PlanarState`.
    """
    for k in range(len(parent)):
        angle, rate, x, z, vx, vz = qpos[2 + k], qvel[2 + k], 0.0, 0.0, 0.0, 0.0
        if k > 0:
            up = frames[parent[k]]
            rx = up[2] * links[k, 0] - up[3] * links[k, 1]
            rz = up[3] * links[k, 0] + up[2] * links[k, 1]
            angle, rate = angle + up[0], rate + up[1]
            x, z, vx, vz = up[4] + rx, up[5] + rz, up[6] - up[1] * rz, up[7] + up[1] * rx
        c, s = math.cos(angle), math.sin(angle)
        frame = frames[k]
        frame[0], frame[1], frame[2], frame[3] = angle, rate, c, s
        frame[4], frame[5], frame[6], frame[7] = x, z, vx, vz
        rx, rz = c * links[k, 2] - s * links[k, 3], s * links[k, 2] + c * links[k, 3]
        com[k, 0], com[k, 1] = x + rx, z + rz
        velocity[k, 0], velocity[k, 1] = qvel[0] + vx - rate * rz, qvel[1] + vz + rate * rx


SIGHT = (
    "int64[::1], int64[::1], float64[:, :], float64[:, :], float64[:, :], int64[::1], float64[:, ::1], float64[::1],"
    " int64[::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[::1]"
)
"""Types of the arguments for simulations, robot and ground: ``ids`` to ``offsets`` of :func:`look`."""


@compiled(
    f"void({SIGHT},"
    " float64[:, :, ::1], float64[:, :, ::1], float64[:, :, ::1], float64[:, ::1], float64[::1], float64[:, ::1],"
    " boolean[::1])"
)
def read_state(
    ids: Array, rows: Array, qpos: Array, qvel: Array, force: Array, parent: Array, links: Array,
    torque: Array, point_link: Array, points: Array, edges: Array, left: Array, grade: Array, offsets: Array,
    com: Array, velocity: Array, fall_points: Array, effort: Array, ground: Array, scan: Array, touching: Array,
) -> None:  # fmt: skip
    """Read the state and the ground of the simulations ``ids`` (m,).

    Args:
        ids: (m,) the simulations.
        rows: (n,) row of each simulation's track in the bank.
        qpos: (n, nq) generalized positions.
        qvel: (n, nv) generalized velocities.
        force: (n, joints) torques, Nm.
        parent: (links,) see :func:`_chain`.
        links: (links, 4) see :func:`_chain`.
        torque: (joints,) torque limits, Nm.
        point_link: (points,) link of each fall point.
        points: (points, 3) x and z of the fall points in the frames of their links, and radii, m.
        edges: (rows, S + 1) ``edges`` of the :class:`Tracks` of the bank.
        left: (rows, S) their ``left``.
        grade: (rows, S) their ``grade``.
        offsets: (samples,) ascending positions of the scanner's samples relative to the root, m.
        com: (m, links, 2) out: ``com`` of :class:`PlanarState`.
        velocity: (m, links, 2) out: ``com_velocity`` of :class:`PlanarState`.
        fall_points: (m, points, 2) out: ``fall_points`` of :class:`PlanarState`.
        effort: (m, joints) out: ``effort`` of :class:`PlanarState`.
        ground: (m,) out: ``ground`` of :class:`View`.
        scan: (m, samples) out: ``scan`` of :class:`View`.
        touching: (m,) out: ``touching`` of :class:`View`.
    """
    frames = np.empty((len(parent), 8))
    for k in range(len(ids)):
        i = ids[k]
        edge, level, slope = edges[rows[i]], left[rows[i]], grade[rows[i]]
        x, z = qpos[i, 0], qpos[i, 1]
        _chain(qpos[i], qvel[i], parent, links, frames, com[k], velocity[k])
        for j in range(len(torque)):
            effort[k, j] = force[i, j] / torque[j]
        at = find(edge, x)
        ground[k] = level[at] + (x - edge[at]) * slope[at]
        near = at
        for j in range(len(offsets)):
            place = x + offsets[j]
            near = segment(edge, place, near)
            scan[k, j] = level[near] + (place - edge[near]) * slope[near]
        near, touches = at, False
        for j in range(len(point_link)):
            frame, px, pz = frames[point_link[j]], points[j, 0], points[j, 1]
            px, pz = x + frame[4] + (frame[2] * px - frame[3] * pz), z + frame[5] + (frame[3] * px + frame[2] * pz)
            near = segment(edge, px, near)
            touches |= pz - (level[near] + (px - edge[near]) * slope[near]) < points[j, 2]
            fall_points[k, j, 0], fall_points[k, j, 1] = px, pz
        touching[k] = touches


@numba.njit
def place_boxes(edge: Array, level: Array, slope: Array, start: float, pose: Array, half: Array) -> None:
    """Compute the ground boxes of one simulation; see :meth:`Tracks.boxes_from`."""
    first, last = find(edge, start), len(level) - 1
    for k in range(len(pose)):
        i = min(first + k, last)
        half_width, angle, c, s, thick = (edge[i + 1] - edge[i]) / 2, 0.0, 1.0, 0.0, BASE_THICKNESS / 2
        if slope[i] != 0.0:
            angle, thick = math.atan(slope[i]), SLOPE_THICKNESS / 2
            c, s = math.cos(angle), math.sin(angle)
        used = first + k <= last and half_width > 0
        pose[k, 0] = edge[i] + half_width + s * thick
        pose[k, 1] = level[i] + slope[i] * half_width - c * thick if used else PARKED
        pose[k, 2] = angle
        half[k, 0], half[k, 1] = half_width / c if used else 0.01, thick


@compiled(
    "int64(float64[:, :], float64[::1], float64, float64, int64[::1], float64[:, ::1], float64[:, ::1],"
    " float64[:, ::1], int64[::1], float64[:, :, ::1], float64[:, :, ::1])"
)
def move_ground(
    qpos: Array, center: Array, slack: float, behind: float, rows: Array, edges: Array, left: Array,
    grade: Array, ids: Array, pose: Array, half: Array,
) -> int:  # fmt: skip
    """Move the ground windows whose robot is farther than ``slack`` from their center.

    Args:
        qpos: (n, nq) generalized positions.
        center: (n,) in and out: centers of the windows, m.
        slack: largest distance from the center at which a window is not moved, m.
        behind: extent of a window behind its center, m.
        rows: (n,) see :func:`look`.
        edges: (rows, S + 1) see :func:`look`.
        left: (rows, S) see :func:`look`.
        grade: (rows, S) see :func:`look`.
        ids: (n,) out: the simulations whose windows moved, in the first rows.
        pose: (n, boxes, 3) out: poses of their boxes, see :meth:`Tracks.boxes_from`.
        half: (n, boxes, 2) out: half extents of their boxes, see :meth:`Tracks.boxes_from`.

    Returns:
        Number of moved windows.
    """
    moved = 0
    for i in range(len(center)):
        x = qpos[i, 0]
        if abs(x - center[i]) > slack:
            center[i], ids[moved], row = x, i, rows[i]
            place_boxes(edges[row], left[row], grade[row], x - behind, pose[moved], half[moved])
            moved += 1
    return moved


@compiled("void(float32[:, :], float64[::1], float64[::1], float64[::1], float64[::1], float64[:, ::1])")
def targets(actions: Array, stand: Array, scale: Array, low: Array, high: Array, angles: Array) -> None:
    """Compute target angles (n, joints) of actions (n, joints); ``stand`` to ``high`` are (joints,), in rad."""
    for i in range(angles.shape[0]):
        for j in range(angles.shape[1]):
            action = float(actions[i, j])
            if action > 1.0:
                action = 1.0
            elif action < -1.0:
                action = -1.0
            angle = stand[j] + scale[j] * action  # NaN stays NaN, and MuJoCo reports it
            if angle > high[j]:
                angle = high[j]
            elif angle < low[j]:
                angle = low[j]
            angles[i, j] = angle


_GROUP = compiled(
    "void(int64[::1], float64[:, :], float64[:, :, ::1], float64[:, :, ::1], float64[:, :, ::1], float64[:, ::1],"
    " float64[::1], float64[:, ::1], boolean[::1], float32[:, :])"
)
"""Signature of the loops of observation groups: ``ids`` and ``qpos``, the results of :func:`look`, and the features."""


@_GROUP
def proprio(
    ids: Array, qpos: Array, com: Array, velocity: Array, fall_points: Array, effort: Array, ground: Array,
    scan: Array, touching: Array, out: Array,
) -> None:  # fmt: skip
    """Compute the group ``proprio`` (m, size)."""
    links = com.shape[1]
    for k in range(len(ids)):
        out[k, 0] = qpos[ids[k], 1] - ground[k]
        for j in range(links):
            out[k, 1 + 2 * j], out[k, 2 + 2 * j] = com[k, j, 0], com[k, j, 1]
            out[k, 1 + 2 * (links + j)], out[k, 2 + 2 * (links + j)] = velocity[k, j, 0], velocity[k, j, 1]


@_GROUP
def terrain(
    ids: Array, qpos: Array, com: Array, velocity: Array, fall_points: Array, effort: Array, ground: Array,
    scan: Array, touching: Array, out: Array,
) -> None:  # fmt: skip
    """Compute the group ``terrain`` (m, size)."""
    for k in range(len(ids)):
        for j in range(scan.shape[1]):
            out[k, j] = scan[k, j] - ground[k]


@compiled("void(float32[:, ::1], int64[:], float32[:, ::1])")
def swap_rows(flat: Array, ids: Array, rows: Array) -> None:
    """Swap the rows ``ids`` (m,) of ``flat`` (n, size) with ``rows`` (m, size)."""
    for k in range(len(ids)):
        for j in range(rows.shape[1]):
            flat[ids[k], j], rows[k, j] = rows[k, j], flat[ids[k], j]


@numba.njit
def walk_reward_of(speed: float, pitch: float, effort: float, walk: Array) -> float:
    """Return the reward of :class:`Walk` with parameters ``walk`` at a forward speed, pitch and mean squared effort."""
    off, tilt, strain = (speed - walk[0]) / walk[1], pitch / walk[2], effort / (walk[3] * walk[3])
    return walk[4] * math.exp(-off * off) + walk[5] * math.exp(-tilt * tilt) + walk[6] * math.exp(-strain)


@compiled("void(float64[:, :], float64[:, :, ::1], float64[:, ::1], float64[::1], float64[::1], float64[::1])")
def walk_reward(qpos: Array, velocity: Array, effort: Array, mass: Array, walk: Array, reward: Array) -> None:
    """Compute the reward (n,) of :class:`Walk`; ``walk`` are its parameters, its attributes in order."""
    for i in range(len(reward)):
        speed, torque = 0.0, 0.0
        for k in range(len(mass)):
            speed += velocity[i, k, 0] * mass[k]
        for j in range(effort.shape[1]):
            torque += effort[i, j] * effort[i, j]
        reward[i] = walk_reward_of(speed, qpos[i, 2], torque / effort.shape[1], walk)


@compiled("void(int64[:], int64[:], float64[:], float64[:, ::1], int64[::1], float64[::1])")
def start_episodes(ids: Array, rows: Array, clock: Array, statistics: Array, row: Array, center: Array) -> None:
    """Start episodes in the simulations ``ids`` (m,) on the tracks ``rows`` (m,) with gait clocks ``clock`` (m,)."""
    for k in range(len(ids)):
        i = ids[k]
        statistics[i, 0], statistics[i, 1], statistics[i, 2] = 0.0, 0.0, clock[k]
        row[i], center[i] = rows[k], np.inf


@compiled(
    "UniTuple(int64, 2)(boolean[::1], boolean[::1], float64[::1], float64[:, :], float64, int64,"
    " float64[:, ::1], float64[:, ::1], float32[::1], boolean[::1], boolean[::1], int64[::1], float64[::1],"
    " float64[::1], int64[::1], boolean[::1])"
)
def compute_outcome(
    touching: Array, failed: Array, earned: Array, qpos: Array, dt: float, limit: int, goal: Array, statistics: Array,
    reward: Array, terminated: Array, truncated: Array,
    ids: Array, total: Array, distance: Array, length: Array, success: Array,
) -> tuple[int, int]:  # fmt: skip
    """Compute rewards and terminations and update the episode statistics.

    Args:
        touching: (n,) see :class:`View`.
        failed: (n,) whether MuJoCo failed.
        earned: (n,) reward before falls are taken into account.
        qpos: (n, nq) generalized positions.
        dt: duration of the step, s.
        limit: steps of an episode.
        goal: (n, 2) smallest and largest x at which an episode must end to count as a success, m.
        statistics: (n, 3) in and out: total reward, steps and gait clock of the running episodes.
        reward: (n,) out: see :class:`Outcome`.
        terminated: (n,) out: see :class:`Outcome`.
        truncated: (n,) out: see :class:`Outcome`.
        ids: (n,) out: simulations whose episode ended, in the first rows; see :class:`Episodes`.
        total: (n,) out: their ``total_reward``.
        distance: (n,) out: their ``distance``.
        length: (n,) out: their ``length``.
        success: (n,) out: their ``success``.

    Returns:
        Number of ended episodes, and number of failed simulations.
    """
    ended, failures = 0, 0
    for i in range(len(reward)):
        failures += failed[i]
        fell = touching[i] or failed[i]
        value = 0.0 if fell else earned[i]
        statistics[i, 0] += value
        statistics[i, 1] += 1.0
        statistics[i, 2] += dt
        over = statistics[i, 1] >= limit and not fell
        reward[i], terminated[i], truncated[i] = value, fell, over
        if fell or over:
            ids[ended], total[ended], length[ended] = i, statistics[i, 0], int(statistics[i, 1])
            distance[ended], success[ended] = qpos[i, 0], over and goal[i, 0] <= qpos[i, 0] <= goal[i, 1]
            ended += 1
    return ended, failures
