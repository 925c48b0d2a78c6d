"""Ground boxes as the geom fields of a MuJoCo model; shared by the CPU engines."""

from __future__ import annotations

import numpy as np

from policykd.envs.terrains.tracks import HALF_DEPTH

GROUND_FIELDS = ("geom_pos", "geom_quat", "geom_size", "geom_rbound", "geom_aabb")
"""Model fields that hold a box; boxes are the model's first geoms."""


def ground_fields(pose: np.ndarray, half: np.ndarray) -> dict[str, np.ndarray]:
    """Model fields of ground boxes.

    Args:
        pose: (..., 3) centres x, z in m and slope angles in rad.
        half: (..., 2) half extents along and below the surface, m.

    Returns:
        ``GROUND_FIELDS`` with shapes (..., 3), (..., 4), (..., 3), (...,), (..., 6).
    """
    shape = half.shape[:-1]
    pos, quat, size, aabb = (np.zeros((*shape, k)) for k in (3, 4, 3, 6))
    pos[..., ::2] = pose[..., :2]
    quat[..., 0], quat[..., 2] = np.cos(pose[..., 2] / 2), -np.sin(pose[..., 2] / 2)
    size[..., ::2], size[..., 1] = half, HALF_DEPTH
    aabb[..., 3:] = size
    radius = np.sqrt((half * half).sum(axis=-1) + HALF_DEPTH**2)
    return {"geom_pos": pos, "geom_quat": quat, "geom_size": size, "geom_rbound": radius, "geom_aabb": aabb}
