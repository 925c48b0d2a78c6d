"""Robots by name; register one of your own before a skill names it."""

from __future__ import annotations

from policykd.envs.robots.biped import BIPED
from policykd.envs.robots.table import Robot
from policykd.names import Registry

ROBOTS: Registry[Robot] = Registry("robot", Robot)
"""The robots by name."""

ROBOTS.register(BIPED.name, BIPED)


def register_robot(robot: Robot) -> None:
    """Make a robot available under its name; its skills exist from then on.

    Raises:
        ConfigError: if another robot has that name.
    """
    ROBOTS.register(robot.name, robot)


def robot_names() -> list[str]:
    """Names of the robots."""
    return sorted(ROBOTS)


def get_robot(name: str) -> Robot:
    """The robot of that name.

    Raises:
        UnknownNameError: with the close matches.
    """
    return ROBOTS[name]
