"""Reward terms shared by tasks: errors of a robot, and their weighted sum as a reward in [0, 1].

They read the state that they are given and never the engine.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from policykd.envs.constants import constant
from policykd.envs.robots import PlanarRobot
from policykd.envs.tasks.base import Situation
from policykd.errors import ConfigError, check_range


def weighted_terms(errors: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Return the sum of ``weight * exp(-error^2)``.

    Args:
        errors: one (n,) tensor per term, in units of the error at which the term falls to 1/e.
        weights: their weights, which sum to 1.

    Returns:
        (n,) in [0, 1].
    """
    stacked = torch.stack(list(errors))
    return constant(tuple(weights), stacked) @ stacked.square_().neg_().exp_()


def check_terms(task: object, terms: Sequence[str]) -> None:
    """Raise unless a task's ``<term>_weight`` sum to 1 and its ``<term>_width`` are positive.

    Raises:
        ConfigError: naming the fields.
    """
    fields = [f"{term}_weight" for term in terms]
    total = sum(getattr(task, field) for field in fields)
    if abs(total - 1.0) > 1e-9:
        name = type(task).__name__.lower()
        raise ConfigError(f"the weights of the {name} task sum to {total}; {', '.join(fields)} must sum to 1")
    for term in terms:
        check_range(f"{term}_weight", getattr(task, f"{term}_weight"), 0.0, 1.0)
        check_range(f"{term}_width", getattr(task, f"{term}_width"), 1e-6, float("inf"))


def forward_speed(now: Situation) -> torch.Tensor:
    """Return (n,) forward velocity of the center of mass, m/s."""
    return now.state.com_velocity[:, :, 0] @ now.mass


def effort(now: Situation, width: float) -> torch.Tensor:
    """Return (n,) root mean square over the joints of torque divided by its limit, in units of ``width``."""
    torques = now.state.effort
    return torch.linalg.vector_norm(torques, dim=1) / (width * torques.shape[1] ** 0.5)


def height_of_top(now: Situation) -> torch.Tensor:
    """Return (n,) height of the highest fall point above the ground under the root, m."""
    return now.state.fall_points[:, :, 1].amax(dim=1) - now.around.ground


def feet_apart(now: Situation) -> torch.Tensor:
    """Return (n,) distance between the centers of the two feet, m."""
    right, left = feet_of(now.robot)
    return torch.linalg.vector_norm(now.state.com[:, right] - now.state.com[:, left], dim=1)


def feet_speed_apart(now: Situation) -> torch.Tensor:
    """Return (n,) relative speed of the centers of the two feet, m/s."""
    right, left = feet_of(now.robot)
    return torch.linalg.vector_norm(now.state.com_velocity[:, right] - now.state.com_velocity[:, left], dim=1)


def height_of_shanks(now: Situation) -> torch.Tensor:
    """Return (n, 2) heights of the shanks' centers of mass above the ground below them, m."""
    shanks = [now.robot.chain(foot)[-2] for foot in feet_of(now.robot)]
    places = torch.stack([now.state.com[:, shank] for shank in shanks], dim=1)  # indexing with a list would make a copy
    ground = now.around.height(now.state.root[:, :1] + places[:, :, 0])
    return now.state.root[:, 1:] + places[:, :, 1] - ground


def clearance(now: Situation) -> torch.Tensor:
    """Return (n,) height of the lowest end of the soles above the ground below it, m."""
    state, robot = now.state, now.robot
    ends = []
    for foot in feet_of(robot):
        link = robot.links[foot]
        angle = state.pitch + sum(state.joints[:, i - 1] for i in robot.chain(foot))
        c, s = torch.cos(angle), torch.sin(angle)
        for x, z in link.ends:
            dx, dz = x - link.center[0], z - link.center[1]
            turned = torch.stack([c * dx - s * dz, s * dx + c * dz - link.radius], dim=1)
            ends.append(state.root + state.com[:, foot] + turned)
    places = torch.stack(ends, dim=1)
    return (places[:, :, 1] - now.around.height(places[:, :, 0])).amin(dim=1)


def feet_of(robot: PlanarRobot) -> tuple[int, int]:
    """Return the indices of the right and left foot among the links.

    Raises:
        ConfigError: for a robot without a pair of feet.
    """
    if robot.foot_pair is None:
        raise ConfigError(
            f"robot {robot.name} has no pair of feet, which this task needs: a pair of links left_x and right_x "
            "that collide with the ground"
        )
    return robot.foot_pair
