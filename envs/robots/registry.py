"""Robots by name; register your own before a skill refers to it."""

from __future__ import annotations

from policykd.envs.robots.biped import BIPED
from policykd.envs.robots.gymnasium_bodies import GYMNASIUM_BODIES
from policykd.envs.robots.humanoid import HUMANOID
from policykd.envs.robots.humanoid_full import HUMANOID_FULL
from policykd.envs.robots.quadruped import QUADRUPED
from policykd.envs.robots.quadruped_large import QUADRUPED_LARGE
from policykd.envs.robots.robot import Robot
from policykd.names import Registry

ROBOTS: Registry[Robot] = Registry("robot", Robot)
"""Robots by name."""

for _robot in (BIPED, QUADRUPED, QUADRUPED_LARGE, HUMANOID, HUMANOID_FULL, *GYMNASIUM_BODIES):
    ROBOTS.register(_robot.name, _robot)


BUILT_IN = frozenset(ROBOTS)
"""Names of the robots that come with the package."""


def register_robot(robot: Robot) -> None:
    """Make a robot and its skills available under its name.

    Raises:
        ConfigError: if another robot has that name.
    """
    ROBOTS.register(robot.name, robot)


def robot_names() -> list[str]:
    """Return the names of the robots."""
    return sorted(ROBOTS)


def get_robot(name: str) -> Robot:
    """Return the robot with a name.

    Raises:
        UnknownNameError: for an unknown name; close matches are named.
    """
    return ROBOTS[name]
