"""Ground boxes as the geom fields of a MuJoCo model; shared by the CPU engines."""

from __future__ import annotations

import math

import numpy as np

from policykd.envs.physics.numba_kernels import write_boxes, write_ground

GROUND_FIELDS = ("geom_pos", "geom_quat", "geom_size", "geom_rbound", "geom_aabb")
"""Model fields of a ground box; boxes are the model's first geoms."""

NO_LANE = np.empty((0, 2))
"""The lane of planar robots for :func:`write_ground`."""


def ground_fields(pose: np.ndarray, half: np.ndarray, lane: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return model fields of ground boxes.

    Args:
        pose: (..., k, 3) centers x, z in m and slope angles in rad.
        half: (..., k, 2) half extents along and below the surface, m.
        lane: (..., 2) center y and half width of the ground, m; None for planar robots.

    Returns:
        ``GROUND_FIELDS`` with shapes (..., k, 3), (..., k, 4), (..., k, 3), (..., k), (..., k, 6).
    """
    shape = half.shape[:-1]
    fields = [np.empty((math.prod(shape[:-1]), shape[-1], *inner)) for inner in ((3,), (4,), (3,), (), (6,))]
    rows = len(fields[0])
    strip = NO_LANE if lane is None else lane.reshape(rows, 2)
    write_ground(np.arange(rows), pose.reshape(rows, -1, 3), half.reshape(rows, -1, 2), strip, *fields)
    return {name: f.reshape(*shape, *f.shape[2:]) for name, f in zip(GROUND_FIELDS, fields, strict=True)}


def box_fields(center: np.ndarray, turn: np.ndarray, half: np.ndarray) -> dict[str, np.ndarray]:
    """Return model fields of ground boxes in space.

    Args:
        center: (m, k, 3) centers, m.
        turn: (m, k, 2) yaw and pitch, rad.
        half: (m, k, 3) half extents along the direction, across it and below the surface, m.

    Returns:
        ``GROUND_FIELDS`` as :func:`ground_fields` returns them.
    """
    shape = half.shape[:2]
    fields = [np.empty((*shape, *inner)) for inner in ((3,), (4,), (3,), (), (6,))]
    write_boxes(np.arange(len(half)), center, turn, half, *fields)
    return dict(zip(GROUND_FIELDS, fields, strict=True))
