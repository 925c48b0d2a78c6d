"""Skills with careful physics, to check that a policy does not live on the simulation's shortcuts.

It returns changed copies of skills and touches no simulation.
"""

from __future__ import annotations

from dataclasses import replace

from policykd.envs.robots import Physics, SpatialRobot
from policykd.envs.skills import Skill
from policykd.errors import ContractError

_TIMESTEP = 0.0025
"""Time step, s."""


def honest_skill(skill: Skill) -> Skill:
    """Return a skill of a robot in space with short time steps, more solver iterations and colliding shins.

    Raises:
        ContractError: for a planar robot, whose links all collide already, and for one with the physics of its model.
    """
    robot = skill.robot
    if not isinstance(robot, SpatialRobot):
        reason = "has the physics of its model" if robot.family == "model" else "moves in a plane"
        raise ContractError(f"{robot.name} {reason}; careful physics is for robots in space on grounds of policykd")
    decimation = round(robot.control_dt / _TIMESTEP)
    physics = Physics(robot.control_dt / decimation, decimation, iterations=30, ls_iterations=30, shins=True)
    return replace(skill, robot=replace(robot, physics=physics))
