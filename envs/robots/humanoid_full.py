"""A humanoid of the class of Unitree's G1 with 29 joints: legs, waist and arms that move; 33 kg.

Masses, centers of mass, inertias, lengths, joint and torque limits and rotor inertias are the figures published for G1
with 29 degrees of freedom; the legs are those of the humanoid with 12 joints. Our choices are exact left-right symmetry
(the torso's center of mass is 0.3 mm off it), the standing pose, the shapes for drawing, and the gains, as there.
"""

from __future__ import annotations

from policykd.envs.robots.humanoid import HUMANOID, RATE, ROTORS, leg
from policykd.envs.robots.solids import Shape, Solid, SolidTable
from policykd.envs.robots.spatial import SpatialRobot

_ROTORS = (
    *ROTORS,
    ("waist_yaw_joint", 0.010177520),
    ("waist_(roll|pitch)_joint", 0.00721945),
    (".*_wrist_(pitch|yaw)_joint", 0.00425),
    (".*", 0.003609725),
)
"""Rotor inertias of the joints, kg m^2; the last are those of shoulders, elbows and the wrists' roll."""

_TRUNK = (
    Solid("pelvis", None, (0.0, 0.0, 0.0), 3.813, (0.0, 0.0, -0.07605),
          (0.010549, 0.0093089, 0.0079184, 0.0, 2.1e-06, 0.0),
          shapes=(Shape("hips", "capsule", (0.06, 0.0, 0.0), (0.0, -0.07, -0.05), (0.0, 0.07, -0.05)),)),
    Solid("waist_yaw", "pelvis", (0.0, 0.0, 0.0), 0.214, (0.003494, 0.0, 0.018034),
          (0.00010673, 0.00010422, 0.0001625, 0.0, -7.63e-06, 0.0),
          "waist_yaw_joint", (0.0, 0.0, 1.0), (-2.618, 2.618)),
    Solid("waist_roll", "waist_yaw", (-0.0039635, 0.0, 0.044), 0.086, (0.0, 0.0, 0.0),
          (7.079e-06, 6.339e-06, 8.245e-06, 0.0, 0.0, 0.0), "waist_roll_joint", (1.0, 0.0, 0.0), (-0.52, 0.52)),
    Solid("torso", "waist_roll", (0.0, 0.0, 0.0), 7.818, (0.0020316, 0.0, 0.184568),
          (0.121698, 0.109825, 0.027522, 0.0, -0.00374229, 0.0), "waist_pitch_joint", (0.0, 1.0, 0.0), (-0.52, 0.52),
          (Shape("trunk", "box", (0.07, 0.1, 0.13), (0.01, 0.0, 0.16)),
           Shape("head", "sphere", (0.08, 0.0, 0.0), (0.02, 0.0, 0.4)))),
)  # fmt: skip


def _arm(side: str) -> tuple[Solid, ...]:
    """Return the seven bodies of the arm ``left`` or ``right``; the shoulder's first axis points up to the outside."""
    s = 1.0 if side == "left" else -1.0
    roll = (-1.5882, 2.2515) if side == "left" else (-2.2515, 1.5882)
    return (
        Solid(f"{side}_shoulder_pitch", "torso", (0.0039563, 0.100215 * s, 0.24778), 0.718,
              (7.2e-06, 0.0377068 * s, -0.0012822),
              (0.0004291, 0.00043875, 0.00043726, -1.06e-05 * s, 3.6e-06, 2.711e-05 * s),
              f"{side}_shoulder_pitch_joint", (0.0, 0.9612461, 0.2756916 * s), (-3.0892, 2.6704)),
        Solid(f"{side}_shoulder_roll", f"{side}_shoulder_pitch", (0.0, 0.0403397 * s, -0.0028188), 0.643,
              (-0.000227, 0.00727 * s, -0.063243), (0.0006177, 0.0006912, 0.0003894, -1e-06 * s, 8.7e-06, -5.3e-06 * s),
              f"{side}_shoulder_roll_joint", (1.0, 0.0, 0.0), roll),
        Solid(f"{side}_shoulder_yaw", f"{side}_shoulder_roll", (0.0, 0.00624 * s, -0.1032), 0.734,
              (0.010773, -0.002949 * s, -0.072009),
              (0.0009988, 0.0010605, 0.0004354, 7.9e-06 * s, 0.0001412, -2.86e-05 * s),
              f"{side}_shoulder_yaw_joint", (0.0, 0.0, 1.0), (-2.618, 2.618),
              (Shape(f"{side}_upper_arm", "capsule", (0.035, 0.0, 0.0), (0.0, 0.0, 0.05), (0.0, 0.0, -0.08)),)),
        Solid(f"{side}_elbow", f"{side}_shoulder_yaw", (0.015783, 0.0, -0.080518), 0.6,
              (0.064956, 0.004454 * s, -0.010062),
              (0.0002891, 0.0004152, 0.0004197, 6.53e-05 * s, 1.72e-05, -5.6e-06 * s),
              f"{side}_elbow_joint", (0.0, 1.0, 0.0), (-1.0472, 2.0944),
              (Shape(f"{side}_forearm", "capsule", (0.033, 0.0, 0.0), (0.0, 0.0, -0.01), (0.12, 0.0, -0.01)),)),
        Solid(f"{side}_wrist_roll", f"{side}_elbow", (0.1, 0.00188791 * s, -0.01), 0.08544,
              (0.017139, 0.000538 * s, 0.0),
              (4.8215e-05, 3.7229e-05, 5.4821e-05, -4.245e-06 * s, 0.0, 0.0),
              f"{side}_wrist_roll_joint", (1.0, 0.0, 0.0), (-1.97222, 1.97222)),
        Solid(f"{side}_wrist_pitch", f"{side}_wrist_roll", (0.038, 0.0, 0.0), 0.48405,
              (0.023, -0.001117 * s, -0.001117),
              (0.0001658, 0.00042954, 0.00042954, -1.2312e-05 * s, 1.2317e-05, 8.14e-07 * s),
              f"{side}_wrist_pitch_joint", (0.0, 1.0, 0.0), (-1.61443, 1.61443)),
        Solid(f"{side}_wrist_yaw", f"{side}_wrist_pitch", (0.046, 0.0, 0.0), 0.25458,
              (0.070824, 0.000192 * s, 0.001617),
              (0.00015044, 0.00064311, 0.00056011, 3.76e-05 * s, -2.954e-06, 3.775e-06 * s),
              f"{side}_wrist_yaw_joint", (0.0, 0.0, 1.0), (-1.61443, 1.61443),
              (Shape(f"{side}_hand", "capsule", (0.03, 0.0, 0.0), (0.03, 0.0, 0.0), (0.11, 0.0, 0.0)),)),
    )  # fmt: skip


HUMANOID_FULL = SpatialRobot(
    name="humanoid-full",
    source=SolidTable((*_TRUNK[:1], *leg("left"), *leg("right"), *_TRUNK[1:], *_arm("left"), *_arm("right"))),
    feet=HUMANOID.feet,
    shins=HUMANOID.shins,
    stiffness=tuple((joint, rotor * RATE**2) for joint, rotor in _ROTORS),
    damping=tuple((joint, 4 * rotor * RATE) for joint, rotor in _ROTORS),
    effort=(
        *HUMANOID.effort, ("waist_yaw_joint", 88.0), ("waist_(roll|pitch)_joint", 50.0),
        (".*_wrist_(pitch|yaw)_joint", 5.0), (".*", 25.0),
    ),
    armature=_ROTORS,
    stand=(
        *HUMANOID.stand, (".*_shoulder_pitch_joint", 0.2), ("left_shoulder_roll_joint", 0.2),
        ("right_shoulder_roll_joint", -0.2), (".*_elbow_joint", 0.6),
    ),
    action_scale=((".*_(hip|knee|ankle).*", 0.8), (".*", 0.3)),
    falls=HUMANOID.falls,
    tilt=HUMANOID.tilt,
    task="stride",
)  # fmt: skip
