"""Planar kinematics of a robot, batched over the simulations.

Every point of a planar chain is the root's position plus a sum of link vectors rotated by the links' absolute angles,
so one matrix product with the sines and cosines of those angles gives all points of all simulations. This needs only
generalized positions and velocities from an engine, works on any device, and costs a fraction of the engine's own body
frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Protocol

import torch

from policykd.envs.robots import Link, PlanarRobot

_FALL_POINTS_PER_LINK = 3


@dataclass
class PlanarState:
    """State of ``n`` simulations in the plane: x forward, z up; m, rad, s.

    Attributes:
        root: (n, 2) position of the root's joint.
        pitch: (n,) rotation of the root.
        root_velocity: (n, 2) velocity of the root's joint.
        joints: (n, joints) joint angles.
        joint_velocity: (n, joints) joint rates.
        com: (n, links, 2) centers of mass of the links, relative to the root's joint.
        com_velocity: (n, links, 2) their velocities in the world.
        fall_points: (n, points, 2) points along the links that must not touch the ground, in the world.
        effort: (n, joints) torques of the last physics step as fractions of their limits.
        pitch_velocity: (n,) rate of the root's rotation.
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
    pitch_velocity: torch.Tensor

    def rows(self, which: slice | torch.Tensor) -> PlanarState:
        """Return the state of the simulations ``which``."""
        return PlanarState(**{field.name: getattr(self, field.name)[which] for field in fields(self)})


class Fields(Protocol):
    """Source of states; every :class:`~policykd.envs.physics.Engine` is one."""

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        ...

    def field(self, name: str) -> torch.Tensor:
        """Return the live (n, ...) tensor of ``qpos``, ``qvel`` or ``actuator_force``."""
        ...


class StateReader:
    """Reads :class:`PlanarState` from an engine.

    Args:
        engine: the engine.
        robot: the robot that it simulates.

    Attributes:
        fall_radius: (points,) height of a fall point above the ground below which it touches the ground, m.
    """

    def __init__(self, engine: Fields, robot: PlanarRobot) -> None:
        self._fields = tuple(engine.field(n) for n in ("qpos", "qvel", "actuator_force"))
        self._chains = _chains(robot, self._fields[0].dtype, engine.device)
        self.fall_radius = self._chains.fall_radius

    def read(self, ids: torch.Tensor | None = None) -> PlanarState:
        """Return the state of the simulations ``ids`` (m,), or of all."""
        return self._chains.state(*(f if ids is None else f[ids] for f in self._fields))


class _Chains:
    """Matrices of a robot's chains on a device."""

    def __init__(self, robot: PlanarRobot, dtype: torch.dtype, device: torch.device) -> None:
        like: dict[str, Any] = {"dtype": dtype, "device": device}
        self._ancestors = _ancestors(robot).to(**like)
        self._torque = torch.tensor([link.torque for link in robot.joints], **like)
        falling, places = fall_points(robot)
        self.fall_radius = torch.tensor([link.radius for link in falling], **like)
        self._com = _point_matrix(robot, robot.links, [link.center for link in robot.links]).to(**like)
        self._points = torch.cat([self._com, _point_matrix(robot, falling, places).to(**like)], dim=1)

    def state(self, qpos: torch.Tensor, qvel: torch.Tensor, force: torch.Tensor) -> PlanarState:
        """Return the state for generalized positions (n, nq) and velocities (n, nv), and torques (n, joints)."""
        angle, rate = qpos[:, 2:] @ self._ancestors, qvel[:, 2:] @ self._ancestors
        c, s = torch.cos(angle), torch.sin(angle)
        points = (torch.cat([c, s], dim=1) @ self._points).view(len(qpos), -1, 2)
        velocity = (torch.cat([-s * rate, c * rate], dim=1) @ self._com).view(len(qpos), -1, 2)
        root, root_velocity, links = qpos[:, :2], qvel[:, :2], velocity.shape[1]
        return PlanarState(
            root=root,
            pitch=qpos[:, 2],
            root_velocity=root_velocity,
            joints=qpos[:, 3:],
            joint_velocity=qvel[:, 3:],
            com=points[:, :links],
            com_velocity=velocity + root_velocity[:, None],
            fall_points=points[:, links:] + root[:, None],
            effort=force / self._torque,
            pitch_velocity=qvel[:, 2],
        )


@cache
def _chains(robot: PlanarRobot, dtype: torch.dtype, device: torch.device) -> _Chains:
    """Return a robot's matrices, which are cached so that steps do not rebuild them."""
    return _Chains(robot, dtype, device)


def planar_state(robot: PlanarRobot, qpos: torch.Tensor, qvel: torch.Tensor) -> PlanarState:
    """Return the state for generalized positions (n, nq) and velocities (n, nv), without torques."""
    return _chains(robot, qpos.dtype, qpos.device).state(qpos, qvel, torch.zeros_like(qvel[:, 3:]))


def fall_points(robot: PlanarRobot) -> tuple[list[Link], list[tuple[float, float]]]:
    """Return the links of the points that must not touch the ground, and the points (x, z) in the links' frames, m."""
    falling = [link for link in robot.links if link.falls for _ in range(_FALL_POINTS_PER_LINK)]
    return falling, [_along(link.ends, i % _FALL_POINTS_PER_LINK) for i, link in enumerate(falling)]


def _ancestors(robot: PlanarRobot) -> torch.Tensor:
    """Return the (links, links) matrix from joint angles (root pitch first) to the links' absolute angles."""
    row = {link.name: i for i, link in enumerate(robot.links)}
    matrix = torch.zeros(len(row), len(row))
    for link in robot.links:
        if link.parent is not None:
            matrix[:, row[link.name]] = matrix[:, row[link.parent]]
        matrix[row[link.name], row[link.name]] = 1.0
    return matrix


def _point_matrix(robot: PlanarRobot, links: Sequence[Link], local: Sequence[tuple[float, float]]) -> torch.Tensor:
    """Return the (2 links, 2 points) matrix from the links' cosines and sines to x, z of points, from the root's joint.

    Args:
        robot: the robot.
        links: the link of each point.
        local: each point in the frame of its link, m.
    """
    row = {link.name: i for i, link in enumerate(robot.links)}
    by_name = {link.name: link for link in robot.links}
    matrix = torch.zeros(2, len(row), len(links), 2, dtype=torch.float64)
    for point, (link, (x, z)) in enumerate(zip(links, local, strict=True)):
        turned = [(link.name, x, z)]
        while link.parent is not None:
            turned.append((link.parent, *link.anchor))
            link = by_name[link.parent]
        for name, x, z in turned:  # c x - s z, s x + c z
            matrix[0, row[name], point] += torch.tensor([x, z], dtype=matrix.dtype)
            matrix[1, row[name], point] += torch.tensor([-z, x], dtype=matrix.dtype)
    return matrix.view(2 * len(row), 2 * len(links))


def _along(ends: tuple[tuple[float, float], tuple[float, float]], k: int) -> tuple[float, float]:
    t = k / (_FALL_POINTS_PER_LINK - 1)
    (x0, z0), (x1, z1) = ends
    return x0 + t * (x1 - x0), z0 + t * (z1 - z0)
