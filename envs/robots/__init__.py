"""Robots: planar characters as tables of links, and the MuJoCo model built from such a table.

``table`` defines what a robot is, ``biped`` is one, ``registry`` finds them by name, ``model`` compiles them (it
loads MuJoCo, so it is imported by its own name). Adding a planar robot means adding a table; nothing else in the
project changes.
"""

from policykd.envs.robots.registry import ROBOTS, get_robot, register_robot, robot_names
from policykd.envs.robots.table import Link, Robot

__all__ = ["ROBOTS", "Link", "Robot", "get_robot", "register_robot", "robot_names"]
