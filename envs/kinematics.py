"""Planar kinematics read from an engine's fields, batched over the simulations."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from policykd.envs.engines import Engine
from policykd.envs.robots import Robot

_FALL_POINTS_PER_LINK = 3


@dataclass
class PlanarState:
    """State of ``n`` simulations in the plane. x forward, z up; m, rad, s.

    Attributes:
        root: (n, 2) position of the root's joint.
        pitch: (n,) rotation of the root.
        root_velocity: (n, 2) velocity of the root's joint.
        joints: (n, joints) joint angles.
        joint_velocity: (n, joints) joint rates.
        com: (n, links, 2) centres of mass of the links.
        com_velocity: (n, links, 2) their velocities.
        fall_points: (n, points, 2) points along the links that must not touch the ground.
        effort: (n, joints) torques of the last physics step as fractions of their limits.
    """

    root: torch.Tensor
    pitch: torch.Tensor
    root_velocity: torch.Tensor
    joints: torch.Tensor
    joint_velocity: torch.Tensor
    com: torch.Tensor
    com_velocity: torch.Tensor
    fall_points: torch.Tensor
    effort: torch.Tensor


class StateReader:
    """Reads :class:`PlanarState` from an engine.

    Args:
        engine: the engine.
        robot: the robot that it simulates.

    Attributes:
        fall_radius: (points,) distance from the ground below which a fall point touches, m.
    """

    def __init__(self, engine: Engine, robot: Robot) -> None:
        self._fields = {n: engine.field(n) for n in ("qpos", "qvel", "xpos", "xipos", "cvel", "subtree_com")}
        self._force = engine.field("actuator_force")
        like = {"dtype": self._fields["qpos"].dtype, "device": engine.device}
        names = [link.name for link in robot.links]
        self._ancestors = _ancestors(robot).to(**like)
        self._torque = torch.tensor([link.torque for link in robot.joints], **like)
        falling = [link for link in robot.links if link.falls]
        self._fall_link = torch.tensor(
            [names.index(link.name) for link in falling for _ in range(_FALL_POINTS_PER_LINK)], device=engine.device
        )
        points = [_along(link.ends, k) for link in falling for k in range(_FALL_POINTS_PER_LINK)]
        self._fall_local = torch.tensor(points, **like)
        self.fall_radius = torch.tensor(
            [link.radius for link in falling for _ in range(_FALL_POINTS_PER_LINK)], **like
        )

    def read(self, ids: torch.Tensor | None = None) -> PlanarState:
        """State of the simulations ``ids`` (m,), or of all."""
        f = self._fields if ids is None else {name: value[ids] for name, value in self._fields.items()}
        force = self._force if ids is None else self._force[ids]
        qpos, qvel = f["qpos"], f["qvel"]
        com = f["xipos"][:, 1:, ::2]
        return PlanarState(
            root=f["xpos"][:, 1, ::2],
            pitch=qpos[:, 2],
            root_velocity=qvel[:, :2],
            joints=qpos[:, 3:],
            joint_velocity=qvel[:, 3:],
            com=com,
            com_velocity=_com_velocity(f["cvel"][:, 1:], com, f["subtree_com"][:, 1, ::2]),
            fall_points=self._fall_points(qpos, f["xpos"]),
            effort=force / self._torque,
        )

    def _fall_points(self, qpos: torch.Tensor, xpos: torch.Tensor) -> torch.Tensor:
        angle = (qpos[:, 2:] @ self._ancestors)[:, self._fall_link]
        c, s = torch.cos(angle), torch.sin(angle)
        x, z = self._fall_local[:, 0], self._fall_local[:, 1]
        return xpos[:, 1:, ::2][:, self._fall_link] + torch.stack([c * x - s * z, s * x + c * z], dim=2)


def _ancestors(robot: Robot) -> torch.Tensor:
    """(links, links) matrix that sums joint angles (root pitch first) to the absolute angles of the links."""
    row = {link.name: i for i, link in enumerate(robot.links)}
    matrix = torch.zeros(len(row), len(row))
    for link in robot.links:
        if link.parent is not None:
            matrix[:, row[link.name]] = matrix[:, row[link.parent]]
        matrix[row[link.name], row[link.name]] = 1.0
    return matrix


def _along(ends: tuple[tuple[float, float], tuple[float, float]], k: int) -> tuple[float, float]:
    t = k / (_FALL_POINTS_PER_LINK - 1)
    (x0, z0), (x1, z1) = ends
    return x0 + t * (x1 - x0), z0 + t * (z1 - z0)


def _com_velocity(cvel: torch.Tensor, com: torch.Tensor, center: torch.Tensor) -> torch.Tensor:
    """(n, links, 2) velocities of the centres of mass from MuJoCo's com-based spatial velocities.

    ``cvel`` is the velocity of the body's material at ``subtree_com`` of the root; omega_y turns z into x.
    """
    spin, linear = cvel[:, :, 1], cvel[:, :, 3::2]
    arm = com - center[:, None]
    return linear + torch.stack([spin * arm[:, :, 1], -spin * arm[:, :, 0]], dim=2)
