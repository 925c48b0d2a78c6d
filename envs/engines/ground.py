"""Ground boxes as the geom fields of a MuJoCo model; shared by the CPU engines."""

from __future__ import annotations

import math

import numpy as np

from policykd.envs.compiled import compiled
from policykd.envs.terrains.tracks import HALF_DEPTH

GROUND_FIELDS = ("geom_pos", "geom_quat", "geom_size", "geom_rbound", "geom_aabb")
"""Model fields that hold a box; boxes are the model's first geoms."""


@compiled(
    "void(int64[:], float64[:, :, :], float64[:, :, :], float64[:, :, :], float64[:, :, :], float64[:, :, :],"
    " float64[:, :], float64[:, :, :])"
)
def write_ground(
    ids: np.ndarray, pose: np.ndarray, half: np.ndarray,
    pos: np.ndarray, quat: np.ndarray, size: np.ndarray, radius: np.ndarray, aabb: np.ndarray,
) -> None:  # fmt: skip
    """Write ground boxes into model fields that hold those of n simulations and at least k geoms each.

    Args:
        ids: (m,) simulations to write.
        pose: (m, k, 3) centres x, z in m and slope angles in rad.
        half: (m, k, 2) half extents along and below the surface, m.
        pos: (n, geoms, 3) out: ``geom_pos``.
        quat: (n, geoms, 4) out: ``geom_quat``.
        size: (n, geoms, 3) out: ``geom_size``.
        radius: (n, geoms) out: ``geom_rbound``.
        aabb: (n, geoms, 6) out: ``geom_aabb``.
    """
    for row in range(len(ids)):
        i = ids[row]
        for k in range(pose.shape[1]):
            x, z, angle = pose[row, k]
            length, depth = half[row, k]
            pos[i, k, 0], pos[i, k, 1], pos[i, k, 2] = x, 0.0, z
            quat[i, k, 0], quat[i, k, 1] = math.cos(angle / 2), 0.0
            quat[i, k, 2], quat[i, k, 3] = -math.sin(angle / 2), 0.0
            size[i, k, 0], size[i, k, 1], size[i, k, 2] = length, HALF_DEPTH, depth
            radius[i, k] = math.sqrt(length * length + depth * depth + HALF_DEPTH * HALF_DEPTH)
            aabb[i, k, 0], aabb[i, k, 1], aabb[i, k, 2] = 0.0, 0.0, 0.0
            aabb[i, k, 3], aabb[i, k, 4], aabb[i, k, 5] = length, HALF_DEPTH, depth


def ground_fields(pose: np.ndarray, half: np.ndarray) -> dict[str, np.ndarray]:
    """Model fields of ground boxes.

    Args:
        pose: (..., k, 3) centres x, z in m and slope angles in rad.
        half: (..., k, 2) half extents along and below the surface, m.

    Returns:
        ``GROUND_FIELDS`` with shapes (..., k, 3), (..., k, 4), (..., k, 3), (..., k), (..., k, 6).
    """
    shape = half.shape[:-1]
    fields = [np.empty((math.prod(shape[:-1]), shape[-1], *inner)) for inner in ((3,), (4,), (3,), (), (6,))]
    rows = len(fields[0])
    write_ground(np.arange(rows), pose.reshape(rows, -1, 3), half.reshape(rows, -1, 2), *fields)
    return {name: f.reshape(*shape, *f.shape[2:]) for name, f in zip(GROUND_FIELDS, fields, strict=True)}
