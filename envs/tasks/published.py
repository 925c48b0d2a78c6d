"""The task of gymnasium's MuJoCo runners: move forward, stay healthy, spend little; rewards as published.

Parameters of version 5 of Hopper, Walker2d, HalfCheetah, Ant and Humanoid are in ``GYMNASIUM_TASKS``. Rewards are not
in [0, 1], and the last step before a termination is rewarded, both as in the published environments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from typing_extensions import override

from policykd.envs.model_state import ModelState, clipped
from policykd.envs.robots import Family
from policykd.envs.tasks.base import Situation, Task
from policykd.errors import ConfigError, ContractError, check_range

Range = tuple[float | None, float | None]
"""Smallest and largest number, both excluded; None for no bound."""


@dataclass(frozen=True)
class Forward(Task):
    """Run forward on a robot's own ground, with a published reward.

    The reward of a step is ``forward_weight`` times the velocity along x, plus ``healthy_reward`` while the robot is
    healthy, minus the costs. An episode ends when it is not healthy. It succeeds if it does not end before its last
    step and the robot covers half of the distance at ``speed``.

    Attributes:
        speed: velocity that success is measured by, m/s.
        forward_weight: weight of the velocity, s/m.
        measured: point whose velocity counts: ``root`` (its generalized position), ``body`` (the first body's frame) or
            ``mass`` (the center of mass); the last two are one physics step old, as in the published environments.
        control_cost: cost of the sum of the squared controls.
        contact_cost: cost of the sum of the squared contact forces, 1/N^2; the forces are clipped to the robot's
            ``force_limit``.
        contact_cost_limit: largest cost of contacts in a step; None for no limit.
        healthy_reward: reward of a step in which the robot is healthy.
        height: range of the root's height coordinate in which it is healthy, m.
        relative: whether ``height`` is the height above the ground in heights of the initial state instead.
        pitch: range of the pitch in which it is healthy, rad; for planar roots only.
        state_limit: largest magnitude of all coordinates but the first two positions of a healthy robot; None for no
            limit.
        groups_read: observation groups of its skills.

    Raises:
        ConfigError: for a range that is not ascending, or a negative weight.
    """

    speed: float = 1.0
    forward_weight: float = 1.0
    measured: Literal["root", "body", "mass"] = "root"
    control_cost: float = 1e-3
    contact_cost: float = 0.0
    contact_cost_limit: float | None = None
    healthy_reward: float = 1.0
    height: Range = (None, None)
    relative: bool = False
    pitch: Range = (None, None)
    state_limit: float | None = None
    groups_read: tuple[str, ...] = ("positions", "velocities")

    family: ClassVar[Family | None] = "model"
    bounded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("height", "pitch"):
            low, high = getattr(self, name)
            if low is not None and high is not None and not low < high:
                raise ConfigError(f"{name} is {(low, high)}; the first bound must be below the second")
        for name in ("forward_weight", "control_cost", "contact_cost", "healthy_reward"):
            check_range(name, getattr(self, name), 0.0, float("inf"))
        if self.measured not in ("root", "body", "mass"):
            raise ConfigError(f"measured is '{self.measured}'; it must be root, body or mass")

    @property
    @override
    def groups(self) -> tuple[str, ...]:
        return self.groups_read

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of MjData, besides the state, that the reward reads."""
        place = {"root": (), "body": ("xpos",), "mass": ("xipos",)}[self.measured]
        return (*place, "cfrc_ext") if self.contact_cost else place

    @override
    def reward(self, now: Situation) -> torch.Tensor:
        raise ContractError("this task is one of robots that are simulated as their model files say, such as ant")

    def place(self, state: ModelState) -> torch.Tensor:
        """Return the (n,) positions along x whose change is the velocity, m."""
        if self.measured == "root":
            return state.qpos[:, 0].clone()
        if self.measured == "body":
            return state.derived["xpos"][:, 1, 0].clone()
        masses = torch.tensor(state.robot.body.masses, dtype=state.qpos.dtype, device=state.qpos.device)
        return (state.derived["xipos"][:, :, 0] * masses).sum(1) / masses.sum()

    def healthy(self, state: ModelState) -> torch.Tensor:
        """Return (n,) whether the robots are healthy; those that are not end their episode."""
        body, height = state.robot.body, state.height
        if self.relative:
            height = (height - float(body.initial[body.height_index])) / body.height + 1.0
        inside = _within(height, self.height)
        if body.root == "planar":
            inside &= _within(state.qpos[:, 2], self.pitch)
        if self.state_limit is not None:
            inside &= (torch.cat([state.qpos[:, 2:], state.qvel], dim=1).abs() < self.state_limit).all(dim=1)
        return inside

    def earned(self, state: ModelState, velocity: torch.Tensor, healthy: torch.Tensor) -> torch.Tensor:
        """Return the (n,) rewards of a step.

        Args:
            state: state after the step.
            velocity: (n,) mean velocity along x in the step, m/s.
            healthy: (n,) whether the robots are healthy.
        """
        gain = self.forward_weight * velocity + self.healthy_reward * healthy.to(velocity)
        cost = self.control_cost * state.control.square().sum(1)
        if self.contact_cost:
            forces = clipped(state.derived["cfrc_ext"], state.robot.force_limit).flatten(1)
            contacts = self.contact_cost * forces.square().sum(1)
            cost = cost + clipped(contacts, self.contact_cost_limit)
        return gain - cost


def _within(values: torch.Tensor, bounds: Range) -> torch.Tensor:
    inside = torch.ones_like(values, dtype=torch.bool)
    if bounds[0] is not None:
        inside &= values > bounds[0]
    if bounds[1] is not None:
        inside &= values < bounds[1]
    return inside


_ALL_FORCES = ("body_inertias", "body_velocities", "actuator_forces", "contact_forces")
GYMNASIUM_TASKS = {
    "hopper-v5": Forward(height=(0.7, None), pitch=(-0.2, 0.2), state_limit=100.0),
    "walker2d-v5": Forward(height=(0.8, 2.0), pitch=(-1.0, 1.0)),
    "halfcheetah-v5": Forward(control_cost=0.1, healthy_reward=0.0),
    "ant-v5": Forward(
        measured="body", control_cost=0.5, contact_cost=5e-4, height=(0.2, 1.0),
        groups_read=("positions", "velocities", "contact_forces"),
    ),
    "humanoid-v5": Forward(
        measured="mass", forward_weight=1.25, control_cost=0.1, contact_cost=5e-7, contact_cost_limit=10.0,
        healthy_reward=5.0, height=(1.0, 2.0), groups_read=("positions", "velocities", *_ALL_FORCES),
    ),
}  # fmt: skip
"""Tasks of gymnasium's environments, version 5, by name."""

FORWARD = Forward(height=(0.6, 1.6), relative=True)
"""The task of own models: like Hopper's and Walker2d's, with the height in heights of the initial state."""
