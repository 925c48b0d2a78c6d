"""Robots by name."""

from policykd.envs.robots.biped import BIPED
from policykd.envs.robots.table import Robot
from policykd.errors import UnknownNameError

_ROBOTS = {robot.name: robot for robot in (BIPED,)}


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
