"""Robots in space as readable tables: rigid bodies with explicit inertia, one hinge each, and simple shapes.

This is the source of the shipped quadrupeds and humanoids. It knows no gains, feet or standing pose: those are patterns
of :class:`~policykd.envs.robots.spatial.SpatialRobot`, as for a model from a file.

Conventions: x forward, y left, z up; frames are parallel to their parents' in the zero pose, but for ``Solid.turn``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Shape:
    """A simple shape of a body.

    Attributes:
        name: name of the geom.
        kind: ``sphere``, ``capsule`` (between ``at`` and ``end``) or ``box``.
        size: radius of a sphere or capsule in the first entry, half extents of a box, m.
        at: center, or one end of a capsule, in the body's frame, m.
        end: the other end of a capsule, m.
    """

    name: str
    kind: Literal["sphere", "capsule", "box"]
    size: Vector
    at: Vector = (0.0, 0.0, 0.0)
    end: Vector = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Solid:
    """A rigid body and the hinge that connects it to its parent.

    Attributes:
        name: name of the body.
        parent: name of the parent body; None for the base.
        at: position of the frame in the parent's frame, m; the hinge passes through it.
        mass: mass, kg.
        center: position of the center of mass, m.
        inertia: moments of inertia about the center of mass: xx, yy, zz, xy, xz, yz, kg m^2.
        joint: name of the hinge; empty for the base and for a body that is fixed to its parent.
        axis: axis of the hinge.
        limits: joint limits, rad.
        shapes: shapes for contact and drawing.
        turn: rotation of the frame against the parent's about the y axis in the zero pose, rad.
    """

    name: str
    parent: str | None
    at: Vector
    mass: float
    center: Vector
    inertia: tuple[float, float, float, float, float, float]
    joint: str = ""
    axis: Vector = (0.0, 0.0, 0.0)
    limits: tuple[float, float] = (0.0, 0.0)
    shapes: tuple[Shape, ...] = ()
    turn: float = 0.0


@dataclass(frozen=True)
class SolidTable:
    """A robot's bodies, every body after its parent."""

    solids: tuple[Solid, ...]
