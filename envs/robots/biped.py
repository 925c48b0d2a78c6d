"""The planar biped of PLAID: 12 bodies, 11 position-controlled joints, 49 kg, hip 0.79 m above the sole.

Masses, sizes, joint limits, torque limits and gains are those of TerrainRLSim's ``biped2D_full`` character. Our
choices are the capsules instead of its boxes, the standing pose, and the scale of the actions: the original maps
[-1, 1] to each joint's whole range; with a range around the standing pose, untrained policies do not fall at once.
"""

from policykd.envs.robots.planar import Link, PlanarRobot


def _leg(side: str) -> tuple[Link, ...]:
    return (
        Link(f"{side}_thigh", "torso", 5.0, (0.0846, 0.40), (0.0, -0.176), (0.0, 0.0), (-0.5, 2.57),
             torque=150, stiffness=200, damping=20, stand=0.2, action_scale=1.2, falls=True),
        Link(f"{side}_shank", f"{side}_thigh", 2.5, (0.065, 0.416), (0.0, -0.1955), (0.0, -0.352), (-3.0, 0.0),
             torque=125, stiffness=200, damping=20, stand=-0.4, action_scale=1.3, touches=True),
        Link(f"{side}_foot", f"{side}_shank", 0.5, (0.177, 0.05), (0.052, -0.022), (0.0, -0.391), (-1.57, 1.57),
             torque=100, stiffness=100, damping=10, stand=0.2, action_scale=0.7, touches=True),
    )  # fmt: skip


def _arm(side: str) -> tuple[Link, ...]:
    return (
        Link(f"{side}_arm", "torso", 1.5, (0.07, 0.325), (0.0, -0.155), (0.0, 0.41), (-1.2, 3.0),
             torque=100, stiffness=150, damping=15, stand=0.0, action_scale=0.35, falls=True),
        Link(f"{side}_forearm", f"{side}_arm", 0.75, (0.0546, 0.30), (0.0, -0.15), (0.0, -0.31), (0.0, 2.8),
             torque=75, stiffness=100, damping=10, stand=0.3, action_scale=0.35, falls=True),
    )  # fmt: skip


BIPED = PlanarRobot(
    name="biped",
    links=(
        Link("torso", None, 25.0, (0.10, 0.45), (0.0, 0.225), falls=True),
        *_leg("right"),
        *_leg("left"),
        *_arm("right"),
        *_arm("left"),
        Link("head", "torso", 3.5, (0.10, 0.15), (0.0, 0.075), (0.0, 0.42), (-0.57, 0.57),
             torque=50, stiffness=100, damping=10, stand=0.0, action_scale=0.15, falls=True),
    ),
    friction=0.9,
    reach=0.95,
    timestep=1 / 120,
    decimation=4,
)  # fmt: skip
