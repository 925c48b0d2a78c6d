"""Imitating a reference walking cycle: the reward used by PLAID.

It reads the state that it is given and never the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from typing_extensions import override

from policykd.envs.constants import constant
from policykd.envs.resets import PHASE_SECONDS
from policykd.envs.robots import PlanarRobot, Robot
from policykd.envs.tasks.base import Situation, Start, Task
from policykd.envs.tasks.reference_cycle import SPEED, walking_cycle
from policykd.envs.tasks.terms import feet_of
from policykd.errors import ConfigError, check_range

START_PHASES = 20
"""Number of equally spaced phases of the cycle at which episodes begin."""

_TERMS = ("pose", "velocity", "feet", "height", "com")
_LINK_WEIGHTS = {"torso": 1.0, "foot": 0.2}
_OTHER_LINKS = 0.3


@dataclass(frozen=True)
class Imitate(Task):
    """Walk like the reference cycle (1 s, 1.54 m/s), in time with the gait clock.

    The reward of a step is that of TerrainRLSim's ``ScenarioExpImitate``, with which PLAID was trained: a weighted sum
    of five terms ``exp(-scale * error)``, and 0 after a fall. Errors are relative to the cycle at the clock's phase::

        pose      weighted sum of squared angle errors, joints and root; weights 1.0 root, 0.2 ankles, 0.3 others
        velocity  the same of the angular velocities
        feet      mean squared error of the feet's positions: x from the center of mass, z from the ground below each
        height    squared error of the root's height above the ground
        com       squared error of the center of mass's velocity

    Episodes start in the cycle's state at one of 20 phases (reference-state initialization), with noise on the joints.

    Attributes:
        pose_weight: weight of the pose term.
        velocity_weight: weight of the velocity term.
        feet_weight: weight of the feet's term.
        height_weight: weight of the height term.
        com_weight: weight of the center of mass's term.
        pose_scale: scale of the pose term, 1/rad^2.
        velocity_scale: scale of the velocity term, s^2/rad^2.
        feet_scale: scale of the feet's term, 1/m^2.
        height_scale: scale of the height term, 1/m^2.
        com_scale: scale of the center of mass's term, s^2/m^2.

    Raises:
        ConfigError: if the weights do not sum to 1, or a scale is not positive.
    """

    pose_weight: float = 0.5
    velocity_weight: float = 0.05
    feet_weight: float = 0.15
    height_weight: float = 0.1
    com_weight: float = 0.2
    pose_scale: float = 2.0
    velocity_scale: float = 0.005
    feet_scale: float = 40.0
    height_scale: float = 10.0
    com_scale: float = 1.0

    def __post_init__(self) -> None:
        total = sum(getattr(self, f"{term}_weight") for term in _TERMS)
        if abs(total - 1.0) > 1e-9:
            fields = ", ".join(f"{term}_weight" for term in _TERMS)
            raise ConfigError(f"the weights of the imitate task sum to {total}; {fields} must sum to 1")
        for term in _TERMS:
            check_range(f"{term}_weight", getattr(self, f"{term}_weight"), 0.0, 1.0)
            check_range(f"{term}_scale", getattr(self, f"{term}_scale"), 1e-6, float("inf"))

    @property
    @override
    def speed(self) -> float:
        return SPEED

    @property
    @override
    def groups(self) -> tuple[str, ...]:
        return ("proprio", "terrain", "phase")  # the phase gives the position in the cycle

    @override
    def reward(self, now: Situation) -> torch.Tensor:
        errors = imitation_errors(now)
        scale, weight = (
            constant(tuple(getattr(self, f"{term}_{kind}") for term in _TERMS), errors) for kind in ("scale", "weight")
        )
        return torch.exp(-errors * scale) @ weight

    @override
    def start(self, robot: Robot, start: Start) -> Start:
        assert isinstance(robot, PlanarRobot)  # skills refuse robots in space
        qpos, _, clock = start
        phase = torch.floor(clock / PHASE_SECONDS * START_PHASES) / START_PHASES
        reference, velocity = walking_cycle(robot).at(phase)
        noisy = reference + (qpos - constant(tuple(robot.stand_pose.tolist()), qpos))
        noisy[:, :3] = reference[:, :3]
        low, high = constant(tuple(link.limits for link in robot.joints), qpos).unbind(1)
        noisy[:, 3:] = noisy[:, 3:].clamp(low, high)
        return noisy, velocity, phase * PHASE_SECONDS


def imitation_errors(now: Situation) -> torch.Tensor:
    """Return (n, 5) errors relative to the reference cycle, in the order of the terms of :class:`Imitate`."""
    robot, state, around = now.robot, now.state, now.around
    reference = walking_cycle(robot).state(around.cycles)
    weights = constant(tuple(_weight(link.name) for link in robot.links), state.pitch)
    pose = ((state.joints - reference.joints) ** 2) @ weights[1:] + weights[0] * (state.pitch - reference.pitch) ** 2
    velocity = ((state.joint_velocity - reference.joint_velocity) ** 2) @ weights[1:]
    velocity = velocity + weights[0] * (state.pitch_velocity - reference.pitch_velocity) ** 2
    places, wanted = (torch.stack([s.com[:, foot] for foot in feet_of(robot)], dim=1) for s in (state, reference))
    ground = around.height(state.root[:, :1] + places[:, :, 0])
    for where, whole in ((places, state), (wanted, reference)):
        where[:, :, 0] -= (whole.com[:, :, 0] @ now.mass)[:, None]
        where[:, :, 1] += whole.root[:, 1:]
    places[:, :, 1] -= ground
    apart = ((places - wanted) ** 2).sum(dim=2).mean(dim=1)
    height = (state.root[:, 1] - around.ground - reference.root[:, 1]) ** 2
    com_velocity, wanted_velocity = (torch.einsum("nlk,l->nk", s.com_velocity, now.mass) for s in (state, reference))
    com = ((com_velocity - wanted_velocity) ** 2).sum(dim=1)
    return torch.stack([pose, velocity, apart, height, com], dim=1)


def _weight(link: str) -> float:
    """Return a link's weight in the errors of pose and velocity."""
    return _LINK_WEIGHTS.get(link.split("_")[-1], _OTHER_LINKS)
