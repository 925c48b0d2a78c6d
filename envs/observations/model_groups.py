"""Observation groups of robots that are simulated as their files say: the blocks of gymnasium's observation vectors.

In the order of the published tasks, the groups together are the vector that gymnasium's environment returns.
"""

from __future__ import annotations

import torch

from policykd.envs.model_state import ModelState, clipped
from policykd.envs.observations.group import ObservationGroup, Surroundings
from policykd.envs.robots import ModelRobot, Robot

DERIVED = {
    "body_inertias": "cinert",
    "body_velocities": "cvel",
    "actuator_forces": "qfrc_actuator",
    "contact_forces": "cfrc_ext",
}
"""Fields of MjData, besides the state, that a group reads."""


def _positions(state: ModelState, around: Surroundings) -> torch.Tensor:
    return state.qpos[:, state.robot.body.root_places :]


def _velocities(state: ModelState, around: Surroundings) -> torch.Tensor:
    return clipped(state.qvel, state.robot.velocity_limit)


def _body_inertias(state: ModelState, around: Surroundings) -> torch.Tensor:
    return state.derived["cinert"][:, 1:].flatten(1)


def _body_velocities(state: ModelState, around: Surroundings) -> torch.Tensor:
    return state.derived["cvel"][:, 1:].flatten(1)


def _actuator_forces(state: ModelState, around: Surroundings) -> torch.Tensor:
    return state.derived["qfrc_actuator"][:, _root_velocities(state.robot) :]


def _contact_forces(state: ModelState, around: Surroundings) -> torch.Tensor:
    return clipped(state.derived["cfrc_ext"][:, 1:], state.robot.force_limit).flatten(1)


def _root_velocities(robot: ModelRobot) -> int:
    return 6 if robot.body.root == "free" else 3


def _model(robot: Robot) -> ModelRobot:
    assert isinstance(robot, ModelRobot)  # the registry refuses other robots
    return robot


MODEL_GROUPS = (
    ObservationGroup(
        "positions",
        lambda robot: len(_model(robot).body.initial) - _model(robot).body.root_places,
        "generalized positions without the place on the ground (m, rad, quaternion)",
        _positions,
        family="model",
    ),
    ObservationGroup(
        "velocities",
        lambda robot: _model(robot).body.velocities,
        "generalized velocities (m/s, rad/s), clipped as in the published environment",
        _velocities,
        family="model",
    ),
    ObservationGroup(
        "body_inertias",
        lambda robot: 10 * _model(robot).body.bodies,
        "inertias and masses of the bodies about the center of mass (kg m^2, kg m, kg)",
        _body_inertias,
        family="model",
    ),
    ObservationGroup(
        "body_velocities",
        lambda robot: 6 * _model(robot).body.bodies,
        "angular (rad/s) and linear (m/s) velocities of the bodies about the center of mass",
        _body_velocities,
        family="model",
    ),
    ObservationGroup(
        "actuator_forces",
        lambda robot: _model(robot).body.velocities - _root_velocities(_model(robot)),
        "forces of the actuators on the joints (Nm)",
        _actuator_forces,
        family="model",
    ),
    ObservationGroup(
        "contact_forces",
        lambda robot: 6 * _model(robot).body.bodies,
        "torques (Nm) and forces (N) of contacts on the bodies, clipped as in the published environment",
        _contact_forces,
        family="model",
    ),
)
"""Observation groups of robots that are simulated as their files say."""
