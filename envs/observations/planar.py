"""Observation groups of planar robots.

They read the state and never write it.
"""

from __future__ import annotations

import torch

from policykd.envs.kinematics import PlanarState
from policykd.envs.observations.group import Mirrored, ObservationGroup, Surroundings
from policykd.envs.robots import PlanarRobot, Robot

SCAN_BEHIND, SCAN_AHEAD, SCAN_POINTS = -0.5, 3.0, 50
"""Sample positions of the terrain scanner relative to the root, m (PLAID)."""


def _proprio(state: PlanarState, around: Surroundings) -> torch.Tensor:
    """Return PLAID's character features: height of the root, then positions and velocities of all bodies."""
    height = (state.root[:, 1] - around.ground)[:, None]
    return torch.cat([height, state.com.flatten(1), state.com_velocity.flatten(1)], dim=1)


def _proprio_mirrored(robot: Robot) -> Mirrored:
    assert isinstance(robot, PlanarRobot)
    links = len(robot.links)
    places = [1 + 2 * i + axis for i in robot.mirrored_links for axis in (0, 1)]
    order = [0, *places, *(place + 2 * links for place in places)]
    return Mirrored(order, [1.0] * len(order))


def _proprio_parts(robot: Robot) -> list[str]:
    assert isinstance(robot, PlanarRobot)
    return ["", *(link.name for _ in range(2) for link in robot.links for _ in range(2))]


def _proprio_size(robot: Robot) -> int:
    assert isinstance(robot, PlanarRobot)
    return 1 + 4 * len(robot.links)


def _leading_feet(robot: Robot) -> tuple[int, int] | None:
    assert isinstance(robot, PlanarRobot)
    feet = robot.foot_pair
    return None if feet is None else (1 + 2 * feet[0], 1 + 2 * feet[1])


def _terrain(state: PlanarState, around: Surroundings) -> torch.Tensor:
    return around.scan - around.ground[:, None]


PLANAR_GROUPS = (
    ObservationGroup(
        "proprio",
        _proprio_size,
        "root height above the ground (m); x, z of every body from the root (m); their velocities (m/s)",
        _proprio,
        _proprio_mirrored,
        _leading_feet,
        spatial=False,
        parts=_proprio_parts,
    ),
    ObservationGroup(
        "terrain",
        lambda robot: SCAN_POINTS,
        f"{SCAN_POINTS} ground heights from {SCAN_BEHIND} m to {SCAN_AHEAD} m ahead, from the ground below (m)",
        _terrain,
        lambda robot: Mirrored.same(SCAN_POINTS),
        spatial=False,
        parts=lambda robot: [""] * SCAN_POINTS,
    ),
)
"""Observation groups of planar robots, without those that robots in space have, too."""
