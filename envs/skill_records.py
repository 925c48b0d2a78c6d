"""Skills as JSON records, and skills from text that a person typed.

``skill_record`` and ``skill_from_record`` keep everything that an id leaves out: parameters of terrain and task,
observation groups, episode length. They never import code. ``read_skill`` is for text that a person typed: parts of it
may be ``package.module:Attribute``, which is imported and registered first.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from policykd.envs.foreign.skill import PREFIX, GymSkill, gym_from_record, gym_record, gym_skill
from policykd.envs.observations import ObservationGroup, register_group, split_history
from policykd.envs.robots import ROBOTS, Robot, register_robot
from policykd.envs.robots.description import read_robot
from policykd.envs.robots.records import recorded_robot, robot_record
from policykd.envs.skills import Skill, get_skill
from policykd.envs.tasks import Task, register_task
from policykd.envs.tasks.registry import TASKS
from policykd.envs.terrains import TERRAINS, Terrain
from policykd.envs.terrains.registry import import_terrain
from policykd.errors import ConfigError, UnknownNameError
from policykd.names import import_object
from policykd.plain import as_plain, typed

_PATH = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+:[A-Za-z_][\w.]*"
_TABLE = re.compile(r"(?P<path>.+\.ya?ml)(?=/)")
_DOTTED = re.compile(rf"(?P<robot>{_PATH})(?=/)|(?<=/)(?P<terrain>{_PATH})|(?<=\+)(?P<task>{_PATH})")


def skill_record(skill: Skill) -> dict[str, Any]:
    """Return a skill as JSON values: its id, and the parameters that the id leaves out."""
    if isinstance(skill, GymSkill):
        return gym_record(skill)
    terrain = {"name": skill.terrain.name, "preset": skill.terrain.preset, "difficulty": skill.terrain.difficulty}
    robot = robot_record(skill.robot)
    return {
        "id": skill.id,
        "robot": skill.robot.name,
        **({} if robot is None else {"robot_record": robot}),
        "terrain": {**terrain, "generator": _tagged(skill.terrain.generator)},
        "task": _tagged(skill.task),
        "groups": list(skill.groups),
        "episode_steps": skill.episode_steps,
    }


def records_of(skills: Sequence[Skill]) -> dict[str, Any] | None:
    """Return the records of the skills whose ids do not say everything, by id; None if every id does."""
    found = {skill.id: skill_record(skill) for skill in skills if not _is_in_its_id(skill)}
    return found or None


def recorded_skill(skill_id: str, records: Mapping[str, Any] | None, groups: Sequence[str] | None = None) -> Skill:
    """Return the skill of an id in a file, by its record if there is one.

    Args:
        skill_id: the id.
        records: what :func:`records_of` gave when the file was written.
        groups: observation groups; None for those of the record or the task.

    Raises:
        UnknownNameError: for a part that is not registered here, with the close matches.
        ConfigError: for a record of another form or another skill.
    """
    if not records or skill_id not in records:
        return gym_skill(skill_id, groups) if skill_id.startswith(PREFIX) else get_skill(skill_id, groups)
    if skill_id.startswith(PREFIX):
        return gym_from_record(records[skill_id], groups)
    skill = skill_from_record(records[skill_id])
    if skill.id != skill_id:
        raise ConfigError(f"the record of skill {skill_id} describes {skill.id}")
    return skill if groups is None else dataclasses.replace(skill, groups=tuple(groups))


def _is_in_its_id(skill: Skill) -> bool:
    if isinstance(skill, GymSkill):
        return not skill.slices and skill.tasks == 1 and not skill.absent and gym_skill(skill.id, skill.groups) == skill
    if robot_record(skill.robot) is not None:
        return False
    try:
        return get_skill(skill.id, skill.groups) == skill
    except UnknownNameError:
        return False


def skill_from_record(record: Any) -> Skill:
    """Return the skill of a record made by :func:`skill_record`.

    A record can name only the types of terrain generators and tasks that are registered.

    Raises:
        UnknownNameError: for a robot, terrain, task or observation group that is not registered.
        ConfigError: for a malformed record, or parameters out of range.
    """
    where = "skill record"
    content = _mapping(record, where, ("robot", "terrain", "task", "groups", "episode_steps"))
    ground = _mapping(content["terrain"], f"{where}: terrain", ("name", "preset", "difficulty", "generator"))
    name, preset = (typed(str, ground[key], f"{where}: terrain.{key}") for key in ("name", "preset"))
    difficulty = typed(float, ground["difficulty"], f"{where}: terrain.difficulty")
    TERRAINS[name]  # raises with the terrain's name, before its generator is reported as unknown
    generators = _types_in([list(kind.presets.values()) for kind in TERRAINS.values()])
    generator = _from_tagged(ground["generator"], generators, "terrain generator", f"{where}: terrain")
    return Skill(
        recorded_robot(typed(str, content["robot"], f"{where}: robot"), content.get("robot_record")),
        Terrain(name, preset, difficulty, generator),
        _from_tagged(content["task"], _types_in(list(TASKS.values())), "task", f"{where}: task"),
        typed(tuple[str, ...], content["groups"], f"{where}: groups"),
        typed(int, content["episode_steps"], f"{where}: episode_steps"),
    )


def read_skill(
    text: str, groups: Sequence[str] | None = None, records: Iterable[Mapping[str, Any] | None] = ()
) -> Skill:
    """Return the skill for text that a person typed, for example ``biped/steps`` or ``my_lab.robots:DOG/flat``.

    Args:
        text: an id as for :func:`policykd.envs.skills.get_skill`, or ``gym:ID`` for a gymnasium environment. The robot
            may be the path of a YAML file, as in ``my_dog.yaml/flat``; see :mod:`policykd.envs.robots.description`.
            Robot, terrain and task may each be ``package.module:Attribute``: it is imported and registered under its
            own name, or, for a terrain or task without a name, under the attribute's name in lower case.
        groups: observation groups, as names or ``package.module:Attribute``; None for those of the task.
        records: what files say of their skills, see :func:`records_of`; a robot of theirs may be named.

    Raises:
        UnknownNameError: for an unknown part; close matches are named.
        ConfigError: if a module cannot be imported, or the attribute has the wrong type.
    """
    if text.startswith(PREFIX):
        return gym_skill(text, groups)
    chosen = None if groups is None else [import_group(name) for name in groups]
    _register_robot(text.partition("/")[0], records)
    table = _TABLE.match(text)
    if table:
        robot = read_robot(Path(table["path"]))
        register_robot(robot)
        text = f"{robot.name}{text[table.end() :]}"
    return get_skill(_DOTTED.sub(_registered, text), chosen)


def read_robot_name(text: str) -> Robot:
    """Return the robot for text that a person typed: a name, ``package.module:Attribute``, or a YAML file's path.

    Nothing is registered, so that its name may be that of another robot.

    Raises:
        UnknownNameError: for an unknown name; close matches are named.
        ConfigError: for a table that does not fit, a module that cannot be imported, or an attribute of another type.
    """
    return read_robot(Path(text)) if text.endswith((".yaml", ".yml")) else ROBOTS.resolve(text)


def _register_robot(name: str, records: Iterable[Mapping[str, Any] | None]) -> None:
    """Register the robot with a name from the first record that has it, unless a robot has that name."""
    for content in records:
        for record in (content or {}).values():
            if name not in ROBOTS and record.get("robot") == name and record.get("robot_record"):
                recorded_robot(name, record["robot_record"])


def import_group(name: str) -> str:
    """Import and register an observation group given as ``package.module:Attribute``; return the group's name.

    Other names, and histories such as ``joints:5``, are returned as they are.

    Raises:
        ConfigError: if the module cannot be imported, or the attribute is not an observation group.
    """
    if ":" not in name or split_history(name)[1] is not None:
        return name
    group = import_object(name)
    _check_type(name, group, ObservationGroup)
    register_group(group)
    return str(group.name)


def _registered(match: re.Match[str]) -> str:
    """Import and register one dotted part of a skill, and return its name."""
    path = match[0]
    if match["terrain"]:
        return import_terrain(path)
    found = import_object(path)
    if match["robot"]:
        _check_type(path, found, Robot)
        register_robot(found)
        return str(found.name)
    _check_type(path, found, Task)
    name = path.rpartition(":")[2].rpartition(".")[2].lower()
    register_task(name, found)
    return name


def _check_type(path: str, found: object, expected: type) -> None:
    if not isinstance(found, expected):
        raise ConfigError(f"'{path}' is a {type(found).__name__}; it must be a {expected.__name__}")


def _types_in(records: Any) -> dict[str, type]:
    """Return the types of registered terrain generators or tasks, and of their parts, by name."""
    found: dict[str, type] = {}

    def visit(value: Any) -> None:
        if isinstance(value, (list, tuple)):
            for entry in value:
                visit(entry)
        elif dataclasses.is_dataclass(value):
            found[type(value).__name__] = type(value)
            for entry in dataclasses.fields(value):
                visit(getattr(value, entry.name))

    visit(records)
    return found


def _tagged(value: Any) -> Any:
    """Convert a dataclass, and dataclasses inside it, to a mapping with the type's name and the fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {entry.name: _tagged(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    return [_tagged(entry) for entry in value] if isinstance(value, (list, tuple)) else as_plain(value)


def _from_tagged(content: Any, types: Mapping[str, type], kind: str, where: str) -> Any:
    """Return the dataclass that :func:`_tagged` converted; only the given types can be built."""
    given = dict(_mapping(content, where, ("type",)))
    name = typed(str, given.pop("type"), f"{where}.type")
    if name not in types:
        raise UnknownNameError(kind, name, types)
    hints = get_type_hints(types[name])
    unknown = given.keys() - {entry.name for entry in dataclasses.fields(types[name])}
    if unknown:
        raise UnknownNameError(f"field of {kind} {name}:", sorted(unknown)[0], hints)
    values = {key: _field(hints[key], value, types, kind, f"{where}.{key}") for key, value in given.items()}
    return types[name](**values)


def _field(hint: Any, value: Any, types: Mapping[str, type], kind: str, where: str) -> Any:
    if isinstance(value, Mapping):
        return _from_tagged(value, types, kind, where)
    if isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        return tuple(_from_tagged(entry, types, kind, where) for entry in value)
    return typed(hint, value, where)


def _mapping(content: Any, where: str, keys: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where} must be a mapping, got {content!r}")
    missing = [key for key in keys if key not in content]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(missing)}")
    return content
