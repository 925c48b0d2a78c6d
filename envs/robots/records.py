"""Robots from models as JSON records, for files of policies and labeled states; reading one never runs code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_type_hints

from policykd.envs.robots.model_robot import GymnasiumModel, ModelRobot
from policykd.envs.robots.registry import BUILT_IN, ROBOTS, register_robot
from policykd.envs.robots.robot import Robot
from policykd.envs.robots.solids import SolidTable
from policykd.envs.robots.spatial import ModelFile, SpatialRobot
from policykd.errors import ConfigError
from policykd.plain import as_plain, from_plain, typed


def robot_record(robot: Robot) -> dict[str, Any] | None:
    """Return the fields of a robot from a model that others do not have under its name; None for all other robots."""
    if not isinstance(robot, (SpatialRobot, ModelRobot)) or robot.name in BUILT_IN:
        return None
    return dict(as_plain(robot))


def recorded_robot(name: str, record: Any) -> Robot:
    """Return the robot of a record, registered under its name if that is free.

    Args:
        name: name of the robot.
        record: its record; None for a robot that is registered here.

    Raises:
        UnknownNameError: for a robot without a record that is not registered here.
        ConfigError: for a malformed record, or one that differs from the registered robot of that name.
    """
    if record is None:
        return ROBOTS[name]
    if not isinstance(record, Mapping) or "source" not in record:
        raise ConfigError(f"the record of robot {name} must be a mapping with a source")
    where = f"robot {name}"
    content = {key: value for key, value in record.items() if key != "source"}
    source = record["source"]
    parts: Any = from_plain(_source_type(source), source, f"{where}.source")
    kind = ModelRobot if "actuators" in content else SpatialRobot
    hints = get_type_hints(kind)
    unknown = sorted(content.keys() - hints.keys())
    if unknown:
        raise ConfigError(f"{where} has an unknown field {unknown[0]}")
    values = {key: typed(hints[key], value, f"{where}.{key}") for key, value in content.items()}
    robot: Robot = kind(source=parts, **values)
    register_robot(robot)
    return robot


def _source_type(source: Any) -> type[SolidTable | ModelFile | GymnasiumModel]:
    if isinstance(source, Mapping) and "solids" in source:
        return SolidTable
    return GymnasiumModel if isinstance(source, Mapping) and "asset" in source else ModelFile
