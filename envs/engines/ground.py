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
    x, z, angle = np.moveaxis(pose, -1, 0)
    zero = np.zeros_like(x)
    size = np.stack([half[..., 0], np.full_like(x, HALF_DEPTH), half[..., 1]], axis=-1)
    return {
        "geom_pos": np.stack([x, zero, z], axis=-1),
        "geom_quat": np.stack([np.cos(angle / 2), zero, -np.sin(angle / 2), zero], axis=-1),
        "geom_size": size,
        "geom_rbound": np.linalg.norm(size, axis=-1),
        "geom_aabb": np.concatenate([np.zeros_like(size), size], axis=-1),
    }
