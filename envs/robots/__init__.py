"""Robots: planar characters as tables of links, and the MuJoCo model built from such a table.

``planar`` defines robots and links, ``biped`` is one robot, ``registry`` finds robots by name, ``mjcf`` compiles them
(it loads MuJoCo, so import it explicitly). To add a planar robot, add a table; nothing else changes.
"""

from policykd.envs.robots.planar import Link, Robot
from policykd.envs.robots.registry import ROBOTS, get_robot, register_robot, robot_names

__all__ = ["ROBOTS", "Link", "Robot", "get_robot", "register_robot", "robot_names"]
