"""State of robots in space, batched over the simulations, as tasks and observation groups read it.

Vectors are in the frame of the base unless they say otherwise. The heading frame is the base's turned upright: x is
where the robot looks, z is up.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch

from policykd.envs.kinematics import Fields
from policykd.envs.robots import SpatialRobot

SPATIAL_FIELDS = ("qpos", "qvel", "actuator_force", "geom_xpos")
"""Fields of an engine from which the state is read."""


@dataclass
class SpatialState:
    """State of ``n`` simulations; m, rad, s.

    Attributes:
        position: (n, 3) position of the base in the world.
        heading: (n,) angle between the world's x axis and where the base looks.
        velocity: (n, 3) linear velocity of the base in the heading frame: forward, to the left, up.
        linear_velocity: (n, 3) linear velocity of the base.
        angular_velocity: (n, 3) angular velocity of the base.
        gravity: (n, 3) direction of gravity.
        joints: (n, k) joint angles.
        joint_offset: (n, k) joint angles from the standing pose.
        joint_velocity: (n, k) joint rates.
        effort: (n, k) torques of the last physics step as fractions of their limits.
        feet: (n, g, 3) centers of the feet's geoms in the world, at the beginning of the last physics step.
        fall_points: (n, p, 3) points of the base that must stay above the ground, in the world.
    """

    position: torch.Tensor
    heading: torch.Tensor
    velocity: torch.Tensor
    linear_velocity: torch.Tensor
    angular_velocity: torch.Tensor
    gravity: torch.Tensor
    joints: torch.Tensor
    joint_offset: torch.Tensor
    joint_velocity: torch.Tensor
    effort: torch.Tensor
    feet: torch.Tensor
    fall_points: torch.Tensor

    def rows(self, which: slice | torch.Tensor) -> SpatialState:
        """Return the state of the simulations ``which``."""
        return SpatialState(**{field.name: getattr(self, field.name)[which] for field in fields(self)})


class SpatialReader:
    """Reads :class:`SpatialState` from an engine.

    Args:
        engine: the engine; its geoms are ``boxes`` ground boxes, then those of the robot.
        robot: the robot that it simulates.
        boxes: number of ground boxes.
    """

    def __init__(self, engine: Fields, robot: SpatialRobot, boxes: int) -> None:
        self._fields = tuple(engine.field(name) for name in SPATIAL_FIELDS)
        body, like = robot.body, self._fields[0]
        options: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
        self._stand = torch.tensor([servo.stand for servo in body.servos], **options)
        self._torque = torch.tensor([servo.torque for servo in body.servos], **options)
        self._points = torch.tensor(body.fall_points, **options)
        self._feet = torch.tensor(body.feet + boxes, device=like.device)

    def read(self, ids: torch.Tensor | None = None) -> SpatialState:
        """Return the state of the simulations ``ids`` (m,), or of all."""
        qpos, qvel, force, geoms = (part if ids is None else part[ids] for part in self._fields)
        turn = rotation(qpos[:, 3:7])
        heading = torch.atan2(turn[:, 1, 0], turn[:, 0, 0])
        c, s = torch.cos(heading), torch.sin(heading)
        vx, vy, vz = qvel[:, :3].unbind(1)
        return SpatialState(
            position=qpos[:, :3],
            heading=heading,
            velocity=torch.stack([c * vx + s * vy, c * vy - s * vx, vz], dim=1),
            linear_velocity=(turn * qvel[:, :3, None]).sum(1),
            angular_velocity=qvel[:, 3:6],
            gravity=-turn[:, 2],
            joints=qpos[:, 7:],
            joint_offset=qpos[:, 7:] - self._stand,
            joint_velocity=qvel[:, 6:],
            effort=force / self._torque,
            feet=geoms[:, self._feet],
            fall_points=qpos[:, None, :3] + self._points @ turn.transpose(1, 2),
        )


def rotation(quaternion: torch.Tensor) -> torch.Tensor:
    """Return the rotation matrices (n, 3, 3) from the base's frame to the world of unit quaternions (n, 4)."""
    w, x, y, z = quaternion.unbind(1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
