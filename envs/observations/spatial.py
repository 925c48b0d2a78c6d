"""Observation groups of robots in space: what an inertial unit, joint encoders and a height scanner measure.

``base_velocity`` is a group of its own, because real robots do not measure it: a student can leave it out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from policykd.envs.observations.group import Mirrored, ObservationGroup, Surroundings
from policykd.envs.robots import Robot, SpatialRobot
from policykd.envs.spatial_state import SpatialState

SCAN = np.unique(np.round(np.concatenate([np.linspace(-1.25, 4.25, 23), np.linspace(-1.2, 2.4, 41)]), 6))
"""Samples of the scanner along the heading, from the base, leg lengths: 0.09 apart near the feet, 0.25 ahead."""


AREA_SPACING = 0.15
"""Distance between two samples of the scanner of an area, leg lengths."""
AREA_AHEAD, AREA_ASIDE = np.arange(-8, 13) * AREA_SPACING, np.arange(-4, 5) * AREA_SPACING
"""Samples of the scanner of an area ahead of the base and to its left, leg lengths."""


def area_offsets(robot: SpatialRobot) -> np.ndarray:
    """Return the (samples, 2) positions of the samples of an area ahead of the base and to its left, m.

    Samples are in rows from right to left, the rearmost row first.
    """
    return np.stack(np.meshgrid(AREA_AHEAD, AREA_ASIDE, indexing="ij"), axis=2).reshape(-1, 2) * robot.leg_length


def scan_offsets(robot: SpatialRobot) -> np.ndarray:
    """Return the (points,) positions of the scanner's samples along the heading, from the base, m."""
    return np.asarray(SCAN * robot.leg_length)


def _imu(state: SpatialState, around: Surroundings) -> torch.Tensor:
    return torch.cat([state.angular_velocity, state.gravity], dim=1)


def _base_velocity(state: SpatialState, around: Surroundings) -> torch.Tensor:
    return state.linear_velocity


def _joints(state: SpatialState, around: Surroundings) -> torch.Tensor:
    return torch.cat([state.joint_offset, state.joint_velocity], dim=1)


def _last_action(state: SpatialState, around: Surroundings) -> torch.Tensor:
    assert around.last_action is not None
    return around.last_action


def _scan(state: SpatialState, around: Surroundings) -> torch.Tensor:
    return around.scan - state.position[:, 2:]


def _area(state: SpatialState, around: Surroundings) -> torch.Tensor:
    assert around.area is not None
    return around.area - state.position[:, 2:]


def _gait(state: SpatialState, around: Surroundings) -> torch.Tensor:
    assert around.gait is not None
    return around.gait


def _feet(robot: Robot) -> int:
    assert isinstance(robot, SpatialRobot)
    return len(robot.body.foot_names)


def _mirrored_gait(robot: Robot) -> Mirrored:
    """Return the image of two blocks of one feature per foot, and one more feature."""
    assert isinstance(robot, SpatialRobot)
    other, feet = robot.body.foot_mirrored.tolist(), _feet(robot)
    return Mirrored([*other, *(i + feet for i in other), 2 * feet], [1.0] * (2 * feet + 1))


def _mirrored_area(robot: Robot) -> Mirrored:
    places = np.arange(len(AREA_AHEAD) * len(AREA_ASIDE)).reshape(len(AREA_AHEAD), -1)
    return Mirrored(places[:, ::-1].ravel().tolist(), [1.0] * places.size)


def _mirrored_joints(robot: Robot, blocks: int) -> Mirrored:
    """Return the image of ``blocks`` blocks of one feature per joint."""
    assert isinstance(robot, SpatialRobot)
    other, sign = robot.body.mirrored.tolist(), robot.body.mirror_sign.tolist()
    return Mirrored([i + block * len(other) for block in range(blocks) for i in other], sign * blocks)


def _leading_joints(robot: Robot) -> tuple[int, int] | None:
    """Return the angles of the first pair of joints on both sides that swing alike, the hips or thighs."""
    assert isinstance(robot, SpatialRobot)
    body = robot.body
    pairs = [(i, int(j)) for i, j in enumerate(body.mirrored) if i < j and body.mirror_sign[i] > 0]
    return pairs[0] if pairs and body.symmetric else None


def _joint_names(robot: Robot) -> list[str]:
    return [servo.joint for servo in robot.servos]


def _gait_parts(robot: Robot) -> list[str]:
    assert isinstance(robot, SpatialRobot)
    return [*robot.body.foot_names, *robot.body.foot_names, ""]


def _whole(size: int) -> Any:
    """Return the parts of a group whose features are all about the whole robot."""
    return lambda robot: [""] * size


def _fixed(signs: tuple[float, ...]) -> Any:
    return lambda robot: Mirrored(list(range(len(signs))), list(signs))


SPATIAL_GROUPS = (
    ObservationGroup(
        "imu",
        lambda robot: 6,
        "angular velocity of the base (rad/s); direction of gravity, in the base's frame",
        _imu,
        _fixed((-1.0, 1.0, -1.0, 1.0, -1.0, 1.0)),
        spatial=True,
        parts=_whole(6),
    ),
    ObservationGroup(
        "base_velocity",
        lambda robot: 3,
        "linear velocity of the base in its own frame (m/s)",
        _base_velocity,
        _fixed((1.0, -1.0, 1.0)),
        spatial=True,
        parts=_whole(3),
    ),
    ObservationGroup(
        "joints",
        lambda robot: 2 * robot.num_actions,
        "joint angles from the standing pose (rad); joint rates (rad/s)",
        _joints,
        lambda robot: _mirrored_joints(robot, 2),
        _leading_joints,
        spatial=True,
        parts=lambda robot: 2 * _joint_names(robot),
    ),
    ObservationGroup(
        "last_action",
        lambda robot: robot.num_actions,
        "last action, in [-1, 1]",
        _last_action,
        lambda robot: _mirrored_joints(robot, 1),
        spatial=True,
        parts=_joint_names,
    ),
    ObservationGroup(
        "gait",
        lambda robot: 2 * _feet(robot) + 1,
        "sines, then cosines of the gait's phases of the feet, 0 without a gait; lowering of the base (leg lengths)",
        _gait,
        _mirrored_gait,
        spatial=True,
        parts=_gait_parts,
    ),
    ObservationGroup(
        "scan",
        lambda robot: len(SCAN),
        f"{len(SCAN)} ground heights along the heading, from {SCAN[0]:g} to {SCAN[-1]:g} leg lengths ahead, from the "
        "height of the base (m)",
        _scan,
        lambda robot: Mirrored.same(len(SCAN)),
        spatial=True,
        parts=_whole(len(SCAN)),
        spacing=0.09,
    ),
    ObservationGroup(
        "area",
        lambda robot: len(AREA_AHEAD) * len(AREA_ASIDE),
        f"{len(AREA_AHEAD)} x {len(AREA_ASIDE)} ground heights in the heading frame, from {AREA_AHEAD[0]:g} to "
        f"{AREA_AHEAD[-1]:g} leg lengths ahead and {AREA_ASIDE[-1]:g} to both sides, from the height of the base (m)",
        _area,
        _mirrored_area,
        spatial=True,
        parts=_whole(len(AREA_AHEAD) * len(AREA_ASIDE)),
        spacing=AREA_SPACING,
    ),
)
"""Observation groups of robots in space, without those that planar robots have, too."""
