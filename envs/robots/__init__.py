"""Robots: planar characters as tables of links, and the MuJoCo model built from such a table.

``table`` defines robots and links, ``biped`` is one robot, ``registry`` finds robots by name, ``model`` compiles them
(it loads MuJoCo, so import it explicitly). To add a planar robot, add a table; nothing else changes.
"""

from policykd.envs.robots.registry import ROBOTS, get_robot, register_robot, robot_names
from policykd.envs.robots.table import Link, Robot

__all__ = ["ROBOTS", "Link", "Robot", "get_robot", "register_robot", "robot_names"]
