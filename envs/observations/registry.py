"""Observation groups by name; register your own before a skill refers to it."""

from __future__ import annotations

from collections.abc import Sequence

from policykd.envs.observations.group import ObservationGroup
from policykd.envs.observations.model_groups import MODEL_GROUPS
from policykd.envs.observations.planar import PLANAR_GROUPS
from policykd.envs.observations.spatial import SPATIAL_GROUPS
from policykd.envs.observations.task_groups import TASK_GROUPS
from policykd.envs.robots import Robot
from policykd.errors import ContractError
from policykd.names import Registry

GROUPS: Registry[ObservationGroup] = Registry("observation group", ObservationGroup)
"""Observation groups by name."""


def register_group(group: ObservationGroup) -> None:
    """Make an observation group available under its name.

    Raises:
        ConfigError: if another group has that name.
    """
    GROUPS.register(group.name, group)


for _group in (PLANAR_GROUPS[0], TASK_GROUPS[0], PLANAR_GROUPS[1], TASK_GROUPS[1], *SPATIAL_GROUPS, *MODEL_GROUPS):
    register_group(_group)


def group_names(robot: Robot | None = None) -> list[str]:
    """Return the names of the observation groups, of those that a robot has if one is given."""
    return [name for name, group in GROUPS.items() if robot is None or group.fits(robot)]


def get_group(name: str) -> ObservationGroup:
    """Return the observation group with a name.

    Raises:
        UnknownNameError: for an unknown name; close matches are named.
    """
    return GROUPS[name]


def group_sizes(names: Sequence[str], robot: Robot) -> dict[str, int]:
    """Return the number of features of each named group, in the given order.

    Raises:
        UnknownNameError: for an unknown name; close matches are named.
        ContractError: for a group that the robot does not have.
    """
    for name in names:
        if not get_group(name).fits(robot):
            valid = ", ".join(group_names(robot))
            raise ContractError(f"{robot.name} has no observation group {name}; it has {valid}")
    return {name: get_group(name).size(robot) for name in names}
