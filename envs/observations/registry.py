"""Observation groups by name; register your own before a skill refers to it.

``joints:5`` needs no registration: it is the history of the last five readings of ``joints``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from policykd.envs.observations.group import ObservationGroup
from policykd.envs.observations.model_groups import MODEL_GROUPS
from policykd.envs.observations.planar import PLANAR_GROUPS
from policykd.envs.observations.reading import reading_of
from policykd.envs.observations.spatial import SPATIAL_GROUPS
from policykd.envs.observations.task_groups import TASK_GROUPS
from policykd.envs.robots import Robot
from policykd.errors import ConfigError, ContractError
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
    """Return the observation group with a name, or, for ``NAME:N``, the last N readings of a registered group.

    Raises:
        UnknownNameError: for an unknown name; close matches are named.
        ConfigError: for a history of more than 1000 readings, or of a group that is a reading itself.
    """
    base, count = split_history(name)
    return GROUPS[name] if count is None else _history(GROUPS[base], count)


def split_history(name: str) -> tuple[str, int | None]:
    """Return the group and the number of readings of ``NAME:N``; other names with None."""
    match = _HISTORY.fullmatch(name)
    return (name, None) if match is None else (match["base"], int(match["count"]))


@cache
def _history(base: ObservationGroup, count: int) -> ObservationGroup:
    return reading_of(base, f"{base.name}:{count}", history=count)


def chosen_groups(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the observation groups that a person typed: names, separated by commas or not.

    ``history:5`` stands for the last five readings of every other group in the list, but for those with a history of
    their own and for ``command`` and ``phase``, which a controller sets itself.

    Args:
        texts: for example ``["imu,joints,last_action", "command", "history:5"]``.

    Raises:
        ConfigError: for ``history`` without a number, given twice, or with nothing to remember.
    """
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    histories = [name for name in names if name.partition(":")[0] == "history"]
    if not histories:
        return tuple(names)
    count = split_history(histories[0])[1]
    if len(histories) > 1 or count is None:
        raise ConfigError(f"groups are {names}; give history once and with a number of readings, as in history:5")
    own = {group.name for group in TASK_GROUPS}
    found = [
        f"{name}:{count}" if ":" not in name and name not in own else name for name in names if name not in histories
    ]
    if found == [name for name in names if name not in histories]:
        raise ConfigError(f"groups are {names}; {histories[0]} needs another group to remember, for example joints")
    return tuple(found)


_HISTORY = re.compile(r"(?P<base>[A-Za-z_]\w*):(?P<count>[1-9]\d{0,4})")


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
