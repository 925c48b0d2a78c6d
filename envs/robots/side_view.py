"""The standing robot seen from its right side, as outlines for drawings; it loads MuJoCo."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import mujoco
import numpy as np
from scipy.spatial import ConvexHull

from policykd.envs.robots.mjcf import build_model
from policykd.envs.robots.robot import Robot

SIDE_COLORS = {"right": "#d97840", "left": "#4078bf", "middle": "#c9bfa8"}
"""Colors of the sides in drawings."""

_ARC = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)


@dataclass(frozen=True)
class Outline:
    """A part of a robot.

    Attributes:
        corners: (k, 2) convex polygon, x and z, m.
        side: ``right``, ``left`` or ``middle``.
    """

    corners: np.ndarray
    side: str


def standing_outlines(robot: Robot) -> list[Outline]:
    """Return the parts of a robot in its standing pose at x = 0, on ground of height 0."""
    model = build_model(robot, 0)
    data = mujoco.MjData(model)
    data.qpos[:] = robot.stand_pose
    mujoco.mj_kinematics(model, data)
    return [Outline(_hull(model, data, i), side_of(robot, model, data, i)) for i in robot_geoms(model)]


def robot_geoms(model: mujoco.MjModel) -> list[int]:
    """Return the geoms of a robot's model that move, which are all but a ground of its own."""
    return [i for i in range(model.ngeom) if model.geom_bodyid[i] > 0]


def _hull(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> np.ndarray:
    center, turn, size = data.geom_xpos[geom], data.geom_xmat[geom].reshape(3, 3), model.geom_size[geom]
    kind = model.geom_type[geom]
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        corners = center + np.array(list(product((-1, 1), repeat=3))) * size @ turn.T
        flat = corners[:, [0, 2]]
    else:
        half = size[1] if kind == mujoco.mjtGeom.mjGEOM_CAPSULE else 0.0
        ends = [center + sign * half * turn[:, 2] for sign in (-1, 1)]
        circle = size[0] * np.stack([np.cos(_ARC), np.sin(_ARC)], axis=1)
        flat = np.concatenate([end[[0, 2]] + circle for end in ends])
    return np.asarray(flat[ConvexHull(flat).vertices])


def side_of(robot: Robot, model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> str:
    """Return the side of a geom in a state whose kinematics were computed: ``right``, ``left`` or ``middle``."""
    if robot.spatial:
        y = float(data.geom_xpos[geom, 1])
        return "middle" if abs(y) < 1e-3 else "right" if y < 0 else "left"
    first = model.geom(geom).name.split("_")[0]
    return first if first in ("right", "left") else "middle"
