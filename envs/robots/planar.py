"""Planar robots: trees of links with one position-controlled hinge each, and a free planar root.

Conventions: x forward, z up, the plane of motion is y = 0; angles are positive counter-clockwise seen with x to the
right and z up, so a positive hip angle swings the leg forward and a negative knee angle bends the knee.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from typing_extensions import override

from policykd.envs.robots.robot import Robot, Servo

Point = tuple[float, float]


@dataclass(frozen=True)
class Link:
    """A rigid body and the hinge that connects it to its parent.

    Its inertia is that of the box of ``size``. Its collision shape is a capsule of the same length and thickness,
    because a capsule rests on two contact points and rolls over edges without catching on them.

    Attributes:
        name: name of the body, of its joint and of its actuator.
        parent: name of the parent link; None for the root.
        mass: mass, kg.
        size: extent along x and z in the zero pose, m.
        center: position of the center of mass from the joint, (x, z) in m.
        anchor: position of the joint in the parent's frame, whose origin is the parent's joint, (x, z) in m.
        limits: joint limits, rad.
        torque: limit of the position controller's torque, Nm.
        stiffness: position gain kp, Nm/rad.
        damping: damping of the joint kd, Nm s/rad.
        stand: joint angle of the standing pose, rad; the target angle of an action of 0.
        action_scale: change of the target angle per unit of action, rad.
        touches: whether the link collides with the ground.
        falls: whether touching the ground ends the episode.
    """

    name: str
    parent: str | None
    mass: float
    size: Point
    center: Point
    anchor: Point = (0.0, 0.0)
    limits: Point = (0.0, 0.0)
    torque: float = 0.0
    stiffness: float = 0.0
    damping: float = 0.0
    stand: float = 0.0
    action_scale: float = 0.0
    touches: bool = False
    falls: bool = False

    @property
    def radius(self) -> float:
        """Radius of the capsule, m."""
        return min(self.size) / 2

    @property
    def ends(self) -> tuple[Point, Point]:
        """Centers of the capsule's two caps in the link's frame, m."""
        half = max(self.size) / 2 - self.radius
        dx, dz = (half, 0.0) if self.size[0] > self.size[1] else (0.0, half)
        (x, z) = self.center
        return (x - dx, z - dz), (x + dx, z + dz)


@dataclass(frozen=True)
class PlanarRobot(Robot):
    """A planar robot.

    Attributes:
        name: name in the registry and first part of every skill id.
        links: the root first, then every link after its parent.
        friction: sliding friction of the links against the ground.
        reach: largest distance of a colliding link from the root's joint along x, m.
        timestep: physics time step, s.
        decimation: physics steps per policy step.
    """

    name: str
    links: tuple[Link, ...]
    friction: float
    reach: float
    timestep: float
    decimation: int

    @property
    def joints(self) -> tuple[Link, ...]:
        """Links with an actuated hinge, in the order of the actions."""
        return self.links[1:]

    @property
    @override
    def servos(self) -> tuple[Servo, ...]:
        return tuple(
            Servo(link.name, link.stand, link.action_scale, link.limits, link.stiffness, link.damping, link.torque)
            for link in self.joints
        )

    @property
    @override
    def default_task(self) -> str:
        return "walk"

    @property
    @override
    def slack(self) -> float:
        return 0.5

    @property
    @override
    def ground_scale(self) -> float:
        return 1.0

    @cached_property
    def mirrored_links(self) -> tuple[int, ...]:
        """Index of each link's counterpart: ``left_x`` for ``right_x`` and vice versa, itself for the others."""
        names = [link.name for link in self.links]
        return tuple(names.index(other) if (other := _counterpart(n)) in names else i for i, n in enumerate(names))

    @cached_property
    def foot_pair(self) -> tuple[int, int] | None:
        """Indices of the right and left foot, the last pair of links that collide; None without such a pair."""
        pairs = [
            (i, other)
            for i, other in enumerate(self.mirrored_links)
            if other != i and self.links[i].touches and self.links[i].name.startswith(_RIGHT)
        ]
        return pairs[-1] if pairs else None

    def chain(self, link: int) -> tuple[int, ...]:
        """Return the indices of a link and its ancestors, without the root."""
        names = [other.name for other in self.links]
        found = []
        while link:
            found.append(link)
            link = names.index(str(self.links[link].parent))
        return tuple(found)

    @cached_property
    def stand_pose(self) -> np.ndarray:
        """(3 + joints,) generalized positions of the standing pose over ground of height 0: x, z, pitch, joints."""
        ends = self._standing_ends()
        lowest = min(z - link.radius for link, heights in zip(self.links, ends, strict=True) for z in heights)
        return np.array([0.0, -lowest, 0.0, *(link.stand for link in self.joints)])

    @cached_property
    def stand_top(self) -> float:
        """Height of the highest end of a link in the standing pose, m, without its radius."""
        return float(self.stand_pose[1] + max(max(heights) for heights in self._standing_ends()))

    def _standing_ends(self) -> list[list[float]]:
        """Return the heights of the ends of every link in the standing pose, relative to the root's joint, m."""
        angles = {self.links[0].name: 0.0}
        origin = {self.links[0].name: np.zeros(2)}
        heights = []
        for link in self.links:
            if link.parent is not None:
                angles[link.name] = angles[link.parent] + link.stand
                origin[link.name] = origin[link.parent] + _rotated(link.anchor, angles[link.parent])
            heights.append([float(origin[link.name][1] + _rotated(end, angles[link.name])[1]) for end in link.ends])
        return heights


_RIGHT, _LEFT = "right_", "left_"


def _counterpart(name: str) -> str:
    for mine, other in ((_RIGHT, _LEFT), (_LEFT, _RIGHT)):
        if name.startswith(mine):
            return other + name.removeprefix(mine)
    return name


def _rotated(point: Point, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([c * point[0] - s * point[1], s * point[0] + c * point[1]])
