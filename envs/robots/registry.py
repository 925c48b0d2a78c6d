"""Robots by name."""

from __future__ import annotations

from policykd.envs.robots.biped import BIPED
from policykd.envs.robots.table import Robot
from policykd.errors import ConfigError, UnknownNameError

_ROBOTS = {BIPED.name: BIPED}


def register_robot(robot: Robot) -> None:
    """Make a robot available under its name; its skills exist from then on.

    Raises:
        ConfigError: if another robot has that name.
    """
    if _ROBOTS.setdefault(robot.name, robot) != robot:
        raise ConfigError(f"another robot is already called '{robot.name}'")


def robot_names() -> list[str]:
    """Names of the robots."""
    return sorted(_ROBOTS)


def get_robot(name: str) -> Robot:
    """The robot of that name.

    Raises:
        UnknownNameError: with the close matches.
    """
    if name not in _ROBOTS:
        raise UnknownNameError("robot", name, _ROBOTS)
    return _ROBOTS[name]
