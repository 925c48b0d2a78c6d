"""A quadruped of the class of Unitree's Go1: 12 joints, 12.7 kg, trunk 0.27 m above the ground when standing.

Masses, centers of mass, inertias, lengths, joint and torque limits are the figures published for Go1. Our choices are
exact left-right symmetry (the trunk's center of mass is 2 mm, the calves' 1 mm off it), the gains, and the simple
shapes.
"""

from __future__ import annotations

from policykd.envs.robots.solids import Shape, Solid, SolidTable
from policykd.envs.robots.spatial import SpatialRobot

_TRUNK = Solid(
    "trunk", None, (0.0, 0.0, 0.0), 5.204, (0.0223, 0.0, -0.0005),
    (0.0168128, 0.0630095, 0.0716547, 0.0, -0.000294553, 0.0),
    shapes=(
        Shape("trunk_box", "box", (0.13, 0.09, 0.05)),
        Shape("head", "sphere", (0.06, 0.0, 0.0), (0.24, 0.0, 0.0)),
    ),
)  # fmt: skip


def _leg(name: str) -> tuple[Solid, ...]:
    """Return hip, thigh and calf of the leg ``FR``, ``FL``, ``RR`` or ``RL``."""
    front, right = (1.0 if name[0] == "F" else -1.0), (1.0 if name[1] == "R" else -1.0)
    return (
        Solid(f"{name}_hip", "trunk", (0.1881 * front, -0.04675 * right, 0.0), 0.68,
              (-0.0049166 * front, 0.00762615 * right, -8.865e-05),
              (0.00039938, 0.000733419, 0.000468422, 1.45897e-05 * front * right, 1.24609e-06 * front,
               -1.57518e-06 * right),
              f"{name}_hip_joint", (1.0, 0.0, 0.0), (-0.863, 0.863),
              (Shape(f"{name}_hip", "capsule", (0.046, 0.0, 0.0), (0.0, -0.02 * right, 0.0),
                     (0.0, -0.04 * right, 0.0)),)),
        Solid(f"{name}_thigh", f"{name}_hip", (0.0, -0.08 * right, 0.0), 1.009,
              (-0.00304722, 0.019315 * right, -0.0305004),
              (0.0045988, 0.00468922, 0.000817448, -6.13737e-05 * right, -0.00022753, -0.000610808 * right),
              f"{name}_thigh_joint", (0.0, 1.0, 0.0), (-0.686, 4.501),
              (Shape(f"{name}_thigh", "capsule", (0.018, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, -0.2)),)),
        Solid(f"{name}_calf", f"{name}_thigh", (0.0, 0.0, -0.213), 0.195862,
              (0.00429862, 0.0, -0.146197), (0.00148449, 0.00149764, 3.60682e-05, 0.0, -1.772e-05, 0.0),
              f"{name}_calf_joint", (0.0, 1.0, 0.0), (-2.818, -0.888),
              (Shape(f"{name}_calf", "capsule", (0.012, 0.0, 0.0), (0.01, 0.0, -0.02), (0.0, 0.0, -0.19)),
               Shape(f"{name}_foot", "sphere", (0.023, 0.0, 0.0), (0.0, 0.0, -0.213)))),
    )  # fmt: skip


QUADRUPED = SpatialRobot(
    name="quadruped",
    source=SolidTable((_TRUNK, *_leg("FR"), *_leg("FL"), *_leg("RR"), *_leg("RL"))),
    feet=".*_foot",
    shins=".*_calf",
    stiffness=((".*", 35.0),),
    damping=((".*", 0.8),),
    effort=((".*_calf_joint", 35.55), (".*", 23.7)),
    armature=((".*_calf_joint", 0.009), (".*", 0.005)),
    stand=((".*_thigh_joint", 0.9), (".*_calf_joint", -1.8)),
    action_scale=((".*_hip_joint", 0.6), (".*", 1.0)),
    falls=(
        (0.20, 0.09, -0.06), (0.20, -0.09, -0.06), (-0.20, 0.09, -0.06), (-0.20, -0.09, -0.06),
        (0.28, 0.0, -0.05), (0.0, 0.0, -0.08), (0.0, 0.0, 0.08),
    ),
)  # fmt: skip
