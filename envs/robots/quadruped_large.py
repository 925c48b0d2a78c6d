"""A quadruped of the class of ANYbotics' ANYmal C: 12 joints, 52 kg, base 0.55 m above the ground when standing.

Masses, centers of mass, inertias, lengths and torque limits are the figures published for ANYmal C, with the sensors
and batteries that are fixed to its base. Our choices are exact left-right symmetry (the base's center of mass is 0.2 mm
off it), the joint limits, the gains, the rotor inertias and the simple shapes.
"""

from __future__ import annotations

from policykd.envs.robots.solids import Shape, Solid, SolidTable
from policykd.envs.robots.spatial import SpatialRobot

_BASE = Solid(
    "base", None, (0.0, 0.0, 0.0), 26.373, (-0.017794, 0.0, 0.008504),
    (0.215655, 1.784105, 1.835813, 0.0, 0.057933, 0.0),
    shapes=(
        Shape("trunk", "box", (0.27, 0.11, 0.1)),
        Shape("front", "box", (0.1, 0.09, 0.07), (0.36, 0.0, 0.0)),
        Shape("rear", "box", (0.1, 0.09, 0.07), (-0.36, 0.0, 0.0)),
    ),
)  # fmt: skip


def _leg(name: str) -> tuple[Solid, ...]:
    """Return hip, thigh and shank of the leg ``LF``, ``RF``, ``LH`` or ``RH``; hind knees point forward."""
    front, left = (1.0 if name[1] == "F" else -1.0), (1.0 if name[0] == "L" else -1.0)
    knee = (-2.4, 0.0) if front > 0 else (0.0, 2.4)
    return (
        Solid(f"{name}_hip", "base", (0.2999 * front, 0.104 * left, 0.0), 2.781,
              (0.056712 * front, 0.017394 * left, -0.000461),
              (0.003295526, 0.004939210, 0.005833864, -4.478e-05 * front * left, -9.896e-05 * front,
               0.000135809 * left),
              f"{name}_HAA", (1.0, 0.0, 0.0), (-0.7, 0.7),
              (Shape(f"{name}_hip", "capsule", (0.06, 0.0, 0.0), (0.03 * front, 0.0, 0.0),
                     (0.0599 * front, 0.05 * left, 0.0)),)),
        Solid(f"{name}_thigh", f"{name}_hip", (0.0599 * front, 0.08381 * left, 0.0), 3.071,
              (0.0, 0.030815 * left, -0.245696),
              (0.029904049, 0.029563794, 0.004861085, -4.434e-05 * front * left, -0.000104637 * front,
               0.004142426 * left),
              f"{name}_HFE", (0.0, 1.0, 0.0), (-1.6, 1.6),
              (Shape(f"{name}_thigh", "capsule", (0.04, 0.0, 0.0), (0.0, 0.03 * left, -0.03),
                     (0.0, 0.03 * left, -0.25)),)),
        Solid(f"{name}_shank", f"{name}_thigh", (0.0, 0.1003 * left, -0.285), 0.588424,
              (0.061253 * front, 0.005462 * left, -0.080660),
              (0.00881038, 0.010161141, 0.001549784, 5.357e-05 * front * left, 0.001819354 * front, -2.266e-05 * left),
              f"{name}_KFE", (0.0, 1.0, 0.0), knee,
              (Shape(f"{name}_shank", "capsule", (0.0175, 0.0, 0.0), (0.1 * front, 0.01305 * left, -0.1),
                     (0.09 * front, 0.01305 * left, -0.28)),
               Shape(f"{name}_foot", "sphere", (0.03, 0.0, 0.0), (0.08795 * front, 0.01305 * left, -0.31547)))),
    )  # fmt: skip


QUADRUPED_LARGE = SpatialRobot(
    name="quadruped-large",
    source=SolidTable((_BASE, *_leg("LF"), *_leg("RF"), *_leg("LH"), *_leg("RH"))),
    feet=".*_foot",
    shins=".*_shank",
    stiffness=((".*", 150.0),),
    damping=((".*", 4.0),),
    effort=((".*", 80.0),),
    armature=((".*", 0.05),),
    stand=((".F_HFE", 0.4), (".H_HFE", -0.4), (".F_KFE", -0.8), (".H_KFE", 0.8)),
    action_scale=((".*_HAA", 0.4), (".*", 0.7)),
    falls=(
        (0.42, 0.09, -0.07), (0.42, -0.09, -0.07), (-0.42, 0.09, -0.07), (-0.42, -0.09, -0.07),
        (0.0, 0.0, -0.1), (0.0, 0.0, 0.12),
    ),
)  # fmt: skip
