"""Robots in YAML files: a model and a table of patterns, read with the errors that a person needs.

    name: dog
    model: dog.xml              # MJCF or URDF, relative to this file, or menagerie:unitree_go1/go1
    feet: .*_foot
    stiffness: {.*: 35}
    damping: {.*: 0.8}
    stand: {.*_thigh_joint: 0.9, .*_calf_joint: -1.8}

All other fields of :class:`~policykd.envs.robots.spatial.SpatialRobot` may be given, too. With ``actuators: own`` the
robot is simulated as its file says, and the fields are those of :class:`~policykd.envs.robots.model_robot.ModelRobot`:

    name: runner
    model: runner.xml           # or gymnasium:ant
    actuators: own
    decimation: 5
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from policykd.envs.robots.gymnasium_bodies import GYMNASIUM, gymnasium_model
from policykd.envs.robots.menagerie import MENAGERIE, menagerie_model
from policykd.envs.robots.model_robot import ModelRobot
from policykd.envs.robots.robot import Robot
from policykd.envs.robots.spatial import ModelFile, SpatialRobot
from policykd.errors import ConfigError, UnknownNameError
from policykd.parsing import parse_yaml
from policykd.plain import shown, typed

PATTERNS = ("stiffness", "damping", "effort", "stand", "action_scale", "armature", "friction_loss")
"""Fields that are numbers by pattern; one number counts for every joint."""

_LARGEST = 1_000_000  # bytes of a table
_MOST = 1e30  # magnitude of a number; products of two of them are finite


def read_robot(path: Path) -> Robot:
    """Return the robot of a YAML file; its model is found relative to the file.

    Raises:
        ConfigError: naming the file, and the field or pattern that is missing, unknown or of the wrong type.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ConfigError(f"{path} has more than {_LARGEST:,} bytes; a robot's table is a few lines")
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the robot's table {path} cannot be read: {error.strerror}") from error
    table = parse_yaml(content, f"the robot's table {path}", ConfigError)
    return robot_from_table(table, path.parent, str(path))


def robot_from_table(content: Any, folder: Path, where: str) -> Robot:
    """Return the robot of a table.

    Args:
        content: parsed YAML.
        folder: folder that the model's path is relative to.
        where: name of the table in messages.

    Raises:
        ConfigError: as :func:`read_robot`.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where} must be a table of fields such as name, model and feet")
    given = {str(key): value for key, value in content.items()}
    if "actuators" in given:
        return _own(given, folder, where)
    _check_fields(given, SpatialRobot, ("name", "model", "feet", "stiffness", "damping"), where)
    model = given.pop("model")
    if str(model).startswith(GYMNASIUM):
        raise ConfigError(f"{where}: {model} is simulated with its own ground and motors only; add actuators: own")
    source = _source(model, folder, where)
    for name in PATTERNS:
        if name in given:
            given[name] = _patterns(given[name], f"{where}: {name}")
    for name in ("feet", "shins", "lock"):
        if isinstance(given.get(name), str):
            _check_pattern(given[name], f"{where}: {name}")
    hints = get_type_hints(SpatialRobot)
    values = {name: typed(hints[name], value, f"{where}: {name}") for name, value in given.items()}
    return SpatialRobot(source=source, **values)


def _own(given: dict[str, Any], folder: Path, where: str) -> ModelRobot:
    """Return the robot of a table that keeps the actuators of its model."""
    if given["actuators"] != "own":
        raise ConfigError(
            f"{where}: actuators is {given['actuators']!r}; it must be own, or left out for position servos with "
            "stiffness and damping"
        )
    _check_fields(given, ModelRobot, ("name", "model"), where)
    model = given.pop("model")
    source = gymnasium_model(model) if str(model).startswith(GYMNASIUM) else _source(model, folder, where)
    hints = get_type_hints(ModelRobot)
    return ModelRobot(source=source, **{name: typed(hints[name], v, f"{where}: {name}") for name, v in given.items()})


def _check_fields(given: Mapping[str, Any], kind: type, needed: tuple[str, ...], where: str) -> None:
    known = {field.name for field in dataclasses.fields(kind)} - {"source"} | {"model"}
    unknown = sorted(given.keys() - known)
    if unknown:
        raise UnknownNameError(f"field of a robot in {where}", unknown[0], known)
    missing = [name for name in needed if name not in given]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(missing)}")


def _source(model: Any, folder: Path, where: str) -> ModelFile:
    if not isinstance(model, str) or not model:
        raise ConfigError(f"{where}: model must be a path, menagerie:<robot> or gymnasium:<robot>, got {model!r}")
    path = menagerie_model(model) if model.startswith(MENAGERIE) else folder / model
    try:
        path = path.resolve()
        found = path.is_file()
    except (OSError, ValueError) as error:  # a name that no file can have
        raise ConfigError(f"{where}: the model {model[:80]!r} is not a path: {error}") from None
    if not found:
        raise ConfigError(f"{where}: the model {path} does not exist")
    return ModelFile(str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def _patterns(value: Any, where: str) -> list[tuple[str, float]]:
    """Return numbers by pattern from a mapping or a single number."""
    pairs = value.items() if isinstance(value, Mapping) else [(".*", value)]
    found = []
    for pattern, number in pairs:
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not abs(number) <= _MOST:
            raise ConfigError(f"{where}: '{pattern}' must have a number within {_MOST:g}, got {shown(number)}")
        _check_pattern(str(pattern), where)
        found.append((str(pattern), float(number)))
    return found


def _check_pattern(pattern: str, where: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{where}: '{pattern}' is not a valid regular expression: {error}") from error
