"""A humanoid of the class of Unitree's G1 with 12 joints: legs that move, trunk and arms as one rigid body; 32 kg.

Masses, centers of mass, inertias, lengths, joint and torque limits are the figures published for G1 with 12 degrees of
freedom. Our choices are exact left-right symmetry, the shapes for drawing, and the gains: those of a joint with a
natural frequency of 10 Hz and a damping ratio of 2 for the published rotor inertias.
"""

from __future__ import annotations

import math

from policykd.envs.robots.solids import Shape, Solid, SolidTable
from policykd.envs.robots.spatial import SpatialRobot

_LEAN = 0.1749  # of the thigh's frame against the hip's, rad
_SOLE = ((-0.05, 0.025), (-0.05, -0.025), (0.12, 0.03), (0.12, -0.03))  # corners x, y of a foot, m
ROTORS = (
    (".*_(hip_pitch|hip_yaw)_joint", 0.010177520),
    (".*_(hip_roll|knee)_joint", 0.025101925),
    (".*_ankle_.*_joint", 0.00721945),
)
"""Rotor inertias of the joints, kg m^2."""
RATE = 2 * math.pi * 10.0
"""Natural frequency of a joint that its gains give, rad/s."""

_PELVIS = Solid(
    "pelvis", None, (0.0, 0.0, 0.0), 17.7349, (0.0144905, 0.0, 0.144068),
    (0.552398, 0.454092, 0.212087, 0.0, 0.0105142, 0.0),
    shapes=(
        Shape("hips", "capsule", (0.06, 0.0, 0.0), (0.0, -0.07, -0.05), (0.0, 0.07, -0.05)),
        Shape("trunk", "box", (0.07, 0.1, 0.16), (0.0, 0.0, 0.2)),
        Shape("head", "sphere", (0.08, 0.0, 0.0), (0.02, 0.0, 0.45)),
    ),
)  # fmt: skip


def leg(side: str) -> tuple[Solid, ...]:
    """Return the six bodies of the leg ``left`` or ``right``."""
    s = 1.0 if side == "left" else -1.0
    foot = tuple(Shape(f"{side}_foot{i}", "sphere", (0.005, 0.0, 0.0), (x, y, -0.03)) for i, (x, y) in enumerate(_SOLE))
    roll = (-0.5236, 2.9671) if side == "left" else (-2.9671, 0.5236)
    return (
        Solid(f"{side}_hip_pitch", "pelvis", (0.0, 0.064452 * s, -0.1027), 1.35, (0.002741, 0.047791 * s, -0.02606),
              (0.001811, 0.0014193, 0.0012812, 3.68e-05 * s, -3.44e-05, 0.000171 * s),
              f"{side}_hip_pitch_joint", (0.0, 1.0, 0.0), (-2.5307, 2.8798)),
        Solid(f"{side}_hip_roll", f"{side}_hip_pitch", (0.0, 0.052 * s, -0.030465), 1.52,
              (0.029812, -0.001045 * s, -0.087934),
              (0.0023773, 0.0024123, 0.0016595, -3.8e-06 * s, -0.0003908, 1.84e-05 * s),
              f"{side}_hip_roll_joint", (1.0, 0.0, 0.0), roll, turn=-_LEAN),
        Solid(f"{side}_hip_yaw", f"{side}_hip_roll", (0.025001, 0.0, -0.12412), 1.702,
              (-0.057709, -0.010981 * s, -0.15078),
              (0.0057774, 0.0076124, 0.003149, -0.000541101 * s, -0.0023948, -0.000707202 * s),
              f"{side}_hip_yaw_joint", (0.0, 0.0, 1.0), (-2.7576, 2.7576),
              (Shape(f"{side}_thigh", "capsule", (0.05, 0.0, 0.0), (0.0, 0.0, 0.05), (-0.07, 0.0, -0.16)),)),
        Solid(f"{side}_knee", f"{side}_hip_yaw", (-0.078273, 0.0021489 * s, -0.17734), 1.932,
              (0.005457, 0.003964 * s, -0.12074),
              (0.011329, 0.011277, 0.0015168, 4.8e-05 * s, -4.49e-05, -0.0007146 * s),
              f"{side}_knee_joint", (0.0, 1.0, 0.0), (-0.087267, 2.8798),
              (Shape(f"{side}_shin", "capsule", (0.04, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, -0.28)),), turn=_LEAN),
        Solid(f"{side}_ankle_pitch", f"{side}_knee", (0.0, -9.4445e-05 * s, -0.30001), 0.074,
              (-0.007269, 0.0, 0.011137), (8.4e-06, 1.89e-05, 1.26e-05, 0.0, -2.9e-06, 0.0),
              f"{side}_ankle_pitch_joint", (0.0, 1.0, 0.0), (-0.87267, 0.5236)),
        Solid(f"{side}_ankle_roll", f"{side}_ankle_pitch", (0.0, 0.0, -0.017558), 0.608,
              (0.026505, 0.0, -0.016425), (0.0002231, 0.0016161, 0.0016667, 0.0, 8.91e-05, 0.0),
              f"{side}_ankle_roll_joint", (1.0, 0.0, 0.0), (-0.2618, 0.2618),
              (*foot, Shape(f"{side}_instep", "box", (0.085, 0.03, 0.012), (0.035, 0.0, -0.018)))),
    )  # fmt: skip


HUMANOID = SpatialRobot(
    name="humanoid",
    source=SolidTable((_PELVIS, *leg("left"), *leg("right"))),
    feet=".*_foot[0-3]",
    shins=".*_shin",
    stiffness=tuple((joint, rotor * RATE**2) for joint, rotor in ROTORS),
    damping=tuple((joint, 4 * rotor * RATE) for joint, rotor in ROTORS),
    effort=((".*_(hip_pitch|hip_yaw)_joint", 88.0), (".*_(hip_roll|knee)_joint", 139.0), (".*_ankle_.*", 50.0)),
    armature=ROTORS,
    stand=((".*_hip_pitch_joint", -0.312), (".*_knee_joint", 0.669), (".*_ankle_pitch_joint", -0.363)),
    action_scale=((".*", 0.8),),
    falls=((0.1, 0.0, -0.1), (-0.1, 0.0, -0.1), (0.0, 0.1, -0.1), (0.0, -0.1, -0.1), (0.0, 0.0, 0.5)),
    tilt=60.0,
    task="stride",
)  # fmt: skip
