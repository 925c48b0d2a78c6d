"""Robots: planar characters as tables of links, and the MuJoCo model built from such a table.

``table`` defines what a robot is, ``biped`` is one, ``registry`` finds them by name, ``model`` compiles them.
Adding a planar robot means adding a table; nothing else in the project changes.
"""

from policykd.envs.robots.model import build_model, build_spec
from policykd.envs.robots.registry import get_robot, register_robot, robot_names
from policykd.envs.robots.table import Link, Robot

__all__ = ["Link", "Robot", "build_model", "build_spec", "get_robot", "register_robot", "robot_names"]
