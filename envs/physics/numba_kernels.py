"""The compiled loops of the CPU engines.

They write only into the arrays that the engines hand them.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from policykd.envs.compiled import compiled
from policykd.envs.terrains.tracks import HALF_DEPTH


@numba.cfunc("float64()")
def no_time() -> float:
    """Return 0; replaces the clock of MuJoCo's profiler."""
    return 0.0


@compiled("void(int32[:, :], boolean[::1])")
def failures(warnings: np.ndarray, failed: np.ndarray) -> None:
    """Set ``failed`` (n,) where a simulation has any of the warnings (n, k)."""
    for i in range(len(failed)):
        failed[i] = False
        for k in range(warnings.shape[1]):
            failed[i] |= warnings[i, k] != 0


@compiled(
    "void(int64[:], float64[:, :], float64[:, :], float64[::1], float64[:, :], float64[:, :], float64[:, :],"
    " int32[:, :, :])"
)
def write_states(
    ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray, initial: np.ndarray,
    states: np.ndarray, all_qpos: np.ndarray, all_qvel: np.ndarray, warnings: np.ndarray,
) -> None:  # fmt: skip
    """Set simulations ``ids`` (m,) to the state ``initial`` (size,) with ``qpos`` (m, nq) and ``qvel`` (m, nv).

    Overwrites ``states`` (n, size) and its views ``all_qpos`` and ``all_qvel``, and clears ``warnings``.
    """
    for k in range(len(ids)):
        i = ids[k]
        # Loops: assignments of whole rows compile for seconds, since they can fail with a message about shapes.
        for j in range(len(initial)):
            states[i, j] = initial[j]
        for j in range(qpos.shape[1]):
            all_qpos[i, j] = qpos[k, j]
        for j in range(qvel.shape[1]):
            all_qvel[i, j] = qvel[k, j]
        for j in range(warnings.shape[1]):
            for part in range(warnings.shape[2]):
                warnings[i, j, part] = 0


@compiled(
    "void(int64[:], float64[:, :, :], float64[:, :, :], float64[:, :, :], float64[:, :, :], float64[:, :, :],"
    " float64[:, :, :], float64[:, :], float64[:, :, :])"
)
def write_boxes(
    ids: np.ndarray, center: np.ndarray, turn: np.ndarray, half: np.ndarray,
    pos: np.ndarray, quat: np.ndarray, size: np.ndarray, radius: np.ndarray, aabb: np.ndarray,
) -> None:  # fmt: skip
    """Write ground boxes in space into the model fields of n simulations with at least k geoms each.

    Args:
        ids: (m,) simulations to write.
        center: (m, k, 3) centers, m.
        turn: (m, k, 2) yaw and pitch, rad.
        half: (m, k, 3) half extents, m.
        pos: (n, geoms, 3) out: ``geom_pos``.
        quat: (n, geoms, 4) out: ``geom_quat``.
        size: (n, geoms, 3) out: ``geom_size``.
        radius: (n, geoms) out: ``geom_rbound``.
        aabb: (n, geoms, 6) out: ``geom_aabb``.
    """
    for row in range(len(ids)):
        i = ids[row]
        for k in range(center.shape[1]):
            cy, sy = math.cos(turn[row, k, 0] / 2), math.sin(turn[row, k, 0] / 2)
            cp, sp = math.cos(turn[row, k, 1] / 2), math.sin(turn[row, k, 1] / 2)
            quat[i, k, 0], quat[i, k, 1], quat[i, k, 2], quat[i, k, 3] = cy * cp, sy * sp, -cy * sp, sy * cp
            a, b, c = half[row, k, 0], half[row, k, 1], half[row, k, 2]
            radius[i, k] = math.sqrt(a * a + b * b + c * c)
            for j in range(3):
                pos[i, k, j], size[i, k, j] = center[row, k, j], half[row, k, j]
                aabb[i, k, j], aabb[i, k, 3 + j] = 0.0, half[row, k, j]


@compiled(
    "void(int64[:], float64[:, :, :], float64[:, :, :], float64[:, :], float64[:, :, :], float64[:, :, :],"
    " float64[:, :, :], float64[:, :], float64[:, :, :])"
)
def write_ground(
    ids: np.ndarray, pose: np.ndarray, half: np.ndarray, lane: np.ndarray,
    pos: np.ndarray, quat: np.ndarray, size: np.ndarray, radius: np.ndarray, aabb: np.ndarray,
) -> None:  # fmt: skip
    """Write ground boxes into the model fields of n simulations with at least k geoms each.

    Args:
        ids: (m,) simulations to write.
        pose: (m, k, 3) centers x, z in m and slope angles in rad.
        half: (m, k, 2) half extents along and below the surface, m.
        lane: (m, 2) center y and half width of the ground, m; (0, 2) for planar robots, whose ground is centered.
        pos: (n, geoms, 3) out: ``geom_pos``.
        quat: (n, geoms, 4) out: ``geom_quat``.
        size: (n, geoms, 3) out: ``geom_size``.
        radius: (n, geoms) out: ``geom_rbound``.
        aabb: (n, geoms, 6) out: ``geom_aabb``.
    """
    for row in range(len(ids)):
        i = ids[row]
        y, across, beyond = 0.0, HALF_DEPTH, 0.0
        if len(lane):
            y, across = lane[row, 0], lane[row, 1]
            beyond = across  # planar robots stay in the plane y = 0, where the section bounds a box
        for k in range(pose.shape[1]):
            x, z, angle = pose[row, k, 0], pose[row, k, 1], pose[row, k, 2]
            length, depth = half[row, k, 0], half[row, k, 1]
            pos[i, k, 0], pos[i, k, 1], pos[i, k, 2] = x, y, z
            quat[i, k, 0], quat[i, k, 1] = math.cos(angle / 2), 0.0
            quat[i, k, 2], quat[i, k, 3] = -math.sin(angle / 2), 0.0
            size[i, k, 0], size[i, k, 1], size[i, k, 2] = length, across, depth
            radius[i, k] = math.sqrt(length * length + depth * depth + beyond * beyond)
            aabb[i, k, 0], aabb[i, k, 1], aabb[i, k, 2] = 0.0, 0.0, 0.0
            aabb[i, k, 3], aabb[i, k, 4], aabb[i, k, 5] = length, across, depth
