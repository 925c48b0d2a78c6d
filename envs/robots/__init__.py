"""Robots as data, and the MuJoCo models made from them.

``robot`` defines what every robot offers. ``planar`` has robots in a plane as tables of links, such as ``biped``;
``spatial`` has robots in space, made of a table of ``solids`` or a model file and patterns of names, such as
``quadruped``; ``model_robot`` has robots that are simulated as their files say, such as ``ant``. ``registry`` finds
robots by name. ``mjcf`` compiles models; it loads MuJoCo, so import it explicitly.
"""

from policykd.envs.robots.model_robot import GymnasiumModel, ModelRobot
from policykd.envs.robots.planar import Link, PlanarRobot
from policykd.envs.robots.registry import ROBOTS, get_robot, register_robot, robot_names
from policykd.envs.robots.robot import Family, Robot, Servo
from policykd.envs.robots.spatial import ModelFile, Physics, SpatialRobot

__all__ = [
    "ROBOTS",
    "Family",
    "GymnasiumModel",
    "Link",
    "ModelFile",
    "ModelRobot",
    "Physics",
    "PlanarRobot",
    "Robot",
    "Servo",
    "SpatialRobot",
    "get_robot",
    "register_robot",
    "robot_names",
]
