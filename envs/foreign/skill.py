"""Skills in gymnasium environments, and what stands for the robot in them.

``gym_skill`` makes one from text. A flat observation can be sliced into named groups, so that a student can leave some
out or get others injected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from typing_extensions import override

from policykd.envs.foreign import PREFIX
from policykd.envs.foreign.spaces import OBSERVATION, EnvironmentSpaces, environment_spaces
from policykd.envs.robots import Robot
from policykd.envs.robots.robot import Family, Servo
from policykd.envs.skills import Skill
from policykd.envs.tasks.base import Situation, Task
from policykd.envs.terrains import Terrain
from policykd.errors import ConfigError, ContractError, UnknownNameError

TASK_ID = "task_id"
"""Observation group that tells a student which of several tasks it has: one number per task, one of them 1."""

DISCRETE = "discrete actions"
"""Begin of the name of what stands for the robot of policies with discrete actions."""

_ID = re.compile(rf"{PREFIX}(?P<env>[^?\[\]]+)(\[(?P<slices>[^\]]*)\])?(\?(?P<kwargs>.+))?", re.DOTALL)
_SLICE = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)=(?P<start>\d+):(?P<stop>\d+)\s*")


@dataclass(frozen=True)
class ActionSpace(Robot):
    """The actions of an environment, in the place of a robot: policies act in [-1, 1], which spans the bounds.

    Attributes:
        low: lower bounds of the actions, in the environment's units.
        high: upper bounds.
        dt: time between two actions, s.
        any_bounds: whether actions span the bounds of whatever environment they are taken in; ``low`` and ``high`` are
            -1 and 1 then.
        choices: of discrete actions, the number of choices of each; a policy then returns one logit per choice, and
            the largest of each action is taken. Empty for continuous actions.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    dt: float = 1.0
    any_bounds: bool = False
    choices: tuple[int, ...] = ()

    family: ClassVar[Family] = "gymnasium"
    terrains: ClassVar[tuple[str, ...] | None] = ("flat",)
    friction = 0.0
    decimation = 1
    reach = 0.0
    slack: ClassVar[float] = 0.0
    ground_scale: ClassVar[float] = 1.0
    default_task: ClassVar[str] = "gymnasium"

    @property
    def name(self) -> str:  # type: ignore[override]  # follows from the bounds
        """Number of actions and their bounds, which a policy has to fit."""
        if self.choices:
            return f"{DISCRETE} with {' and '.join(map(str, self.choices))} choices"
        if self.any_bounds:
            return f"{len(self.low)} actions in the bounds of each environment"
        bounds = sorted({f"[{low:g}, {high:g}]" for low, high in zip(self.low, self.high, strict=True)})
        return f"{len(self.low)} actions in {' '.join(bounds)}"

    @property
    def timestep(self) -> float:  # type: ignore[override]
        """Time between two actions, s."""
        return self.dt

    @property
    @override
    def stand_pose(self) -> np.ndarray:
        return np.zeros(0)

    @property
    @override
    def servos(self) -> tuple[Servo, ...]:
        return tuple(
            Servo(f"action {i}", (low + high) / 2, (high - low) / 2, (low, high), 0.0, 0.0, 0.0)
            for i, (low, high) in enumerate(zip(self.low, self.high, strict=True))
        )


@dataclass(frozen=True)
class EnvironmentReward(Task):
    """The reward that the environment returns."""

    family: ClassVar[Family | None] = "gymnasium"
    bounded: ClassVar[bool] = False
    speed: ClassVar[float] = 0.0

    @override
    def reward(self, now: Situation) -> torch.Tensor:
        raise ContractError("the reward of a gymnasium environment comes from its own step")


@dataclass(frozen=True)
class GymSkill(Skill):
    """A task in a gymnasium environment.

    Attributes:
        env_id: id in gymnasium's registry.
        kwargs: keyword arguments as a JSON object with sorted keys.
        slices: groups of a flat observation, name, first feature and number of features; empty for the environment's
            own groups.
        tasks: number of tasks that the group ``task_id`` tells apart.
        task_number: which of them this is.
        absent: groups that the environment does not have, name and size: they are filled with zeros, so that a student
            of several environments reads the same groups in all of them.

    Raises:
        ConfigError: for slices that do not fit the observation, or an absent group that the environment has.
    """

    env_id: str = field(kw_only=True)
    kwargs: str = field(default="{}", kw_only=True)
    slices: tuple[tuple[str, int, int], ...] = field(default=(), kw_only=True)
    tasks: int = field(default=1, kw_only=True)
    task_number: int = field(default=0, kw_only=True)
    absent: tuple[tuple[str, int], ...] = field(default=(), kw_only=True)

    @override
    def __post_init__(self) -> None:
        size = sum(n for _, n in self.spaces.groups)
        for name, count in self.absent:
            if name in self.own_sizes or count < 1:
                raise ConfigError(f"group {name} ({count}) cannot be absent; {self.env_id} has {self.own_sizes}")
        for name, start, count in self.slices:
            if not 0 <= start < start + count <= size:
                raise ConfigError(f"group {name} is features {start} to {start + count}; {self.env_id} has {size}")
        for name in self.groups:
            if name not in self._sizes:
                raise UnknownNameError(f"observation group of {self.id}:", name, self._sizes)
        if not self.groups or len(set(self.groups)) != len(self.groups):
            raise ConfigError(f"groups are {self.groups}; give at least one, each once (valid: {list(self._sizes)})")

    @property
    def actions(self) -> ActionSpace:
        """The robot, as what it is."""
        assert isinstance(self.robot, ActionSpace)
        return self.robot

    @cached_property
    def spaces(self) -> EnvironmentSpaces:
        """Spaces of the environment."""
        return environment_spaces(self.env_id, self.kwargs)

    @cached_property
    def own_sizes(self) -> dict[str, int]:
        """Sizes of the groups that the environment has, whether or not the skill reads them."""
        own = {name: count for name, _, count in self.slices} or dict(self.spaces.groups)
        return {**own, TASK_ID: self.tasks} if self.tasks > 1 else own

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {**self.own_sizes, **dict(self.absent)}

    @property
    @override
    def absent_groups(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.absent if name in self.groups)

    @property
    @override
    def id(self) -> str:
        number = f"#{self.task_number}" if self.tasks > 1 else ""
        parts = ",".join(f"{name}={start}:{start + count}" for name, start, count in self.slices)
        named = f"[{parts}]" if parts else ""
        return f"{PREFIX}{self.env_id}{named}" + ("" if self.kwargs == "{}" else f"?{self.kwargs}") + number

    @property
    @override
    def short(self) -> str:
        return self.id

    @property
    @override
    def slug(self) -> str:
        number = f"#{self.task_number}" if self.tasks > 1 else ""
        parts = [self.env_id, *(name for name, _, _ in self.slices), "" if self.kwargs == "{}" else self.kwargs, number]
        return re.sub(r"[^\w.-]+", "-", "-".join(parts)).strip("-")

    @property
    @override
    def group_sizes(self) -> dict[str, int]:
        return {name: self._sizes[name] for name in self.groups}

    @property
    @override
    def seconds(self) -> float:
        return self.episode_steps * self.robot.control_dt


def gym_skill(
    text: str,
    groups: Sequence[str] | None = None,
    *,
    slices: Sequence[tuple[str, int, int]] = (),
    tasks: int = 1,
    task_number: int = 0,
    absent: Sequence[tuple[str, int]] = (),
) -> GymSkill:
    """Return the skill of an id: ``gym:BipedalWalker-v3`` or ``gym:Walker2d-v5?{"ctrl_cost_weight": 0.01}``.

    Args:
        text: the id. ``gym:BipedalWalker-v3[body=0:14,lidar=14:24]`` names parts of a flat observation as groups:
            first feature, and the one after the last.
        groups: observation groups; None for all of the environment's.
        slices: named groups of a flat observation, name, first feature and number of features; those of the id if it
            names some.
        tasks: number of tasks of the group ``task_id``.
        task_number: number of this task among them.
        absent: groups that the environment does not have, name and size, to be filled with zeros.

    Raises:
        UnknownNameError: for an environment or group that does not exist; close matches are named.
        ConfigError: for keyword arguments that are not a JSON object, or an environment that cannot be made.
        ContractError: for spaces that are not boxes.
    """
    match = _ID.fullmatch(text)
    if match is None:
        raise ConfigError(f"'{text}' is not a gymnasium skill; write gym:ID, for example gym:BipedalWalker-v3")
    kwargs = _kwargs(match["kwargs"] or "{}")
    slices = slices if match["slices"] is None else _slices(match["slices"])
    spaces = environment_spaces(match["env"], kwargs)
    if slices and spaces.groups[0][0] != OBSERVATION:
        raise ConfigError(f"{match['env']} has named groups already: {', '.join(name for name, _ in spaces.groups)}")
    own = [name for name, _, _ in slices] or [name for name, _ in spaces.groups]
    chosen = tuple(own + ([TASK_ID] if tasks > 1 else []) if groups is None else groups)
    robot = ActionSpace(spaces.low, spaces.high, spaces.control_dt, choices=spaces.choices)
    return GymSkill(
        robot, Terrain("flat"), EnvironmentReward(), chosen, spaces.episode_steps,
        env_id=match["env"], kwargs=kwargs, slices=tuple(slices), tasks=tasks, task_number=task_number,
        absent=tuple(absent),
    )  # fmt: skip


def gym_record(skill: GymSkill) -> dict[str, Any]:
    """Return a skill as JSON values; :func:`gym_from_record` reads it."""
    return {
        "id": skill.id,
        "environment": {"id": skill.env_id, "kwargs": json.loads(skill.kwargs)},
        "slices": [list(s) for s in skill.slices],
        "tasks": [skill.task_number, skill.tasks],
        "groups": list(skill.groups),
        **({"absent": [list(a) for a in skill.absent]} if skill.absent else {}),
    }


def gym_from_record(record: Any, groups: Sequence[str] | None = None) -> GymSkill:
    """Return the skill of a record made by :func:`gym_record`.

    Raises:
        ConfigError: for a malformed record.
    """
    try:
        number, tasks = (int(n) for n in record["tasks"])
        slices = [(str(name), int(start), int(count)) for name, start, count in record["slices"]]
        absent = [(str(name), int(count)) for name, count in record.get("absent", ())]
        own = [str(name) for name in record["groups"]]
        text = str(record["id"]).removesuffix(f"#{number}")
        chosen = own if groups is None else groups
        return gym_skill(text, chosen, slices=slices, tasks=tasks, task_number=number, absent=absent)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"the record of a gymnasium skill is not valid: {error}") from None


def shared_actions(skills: Sequence[Skill]) -> Robot:
    """Return what a policy of several skills moves: their robot, or the bounds of each of their environments.

    Policies act in [-1, 1], which spans the bounds of an environment: equal numbers of actions can share a policy.
    """
    robots = [skill.robot for skill in skills]
    first = robots[0]
    if not isinstance(first, ActionSpace) or all(robot.name == first.name for robot in robots):
        return first
    return any_bounds(first.num_actions)


def choices_of(robot: Robot) -> tuple[int, ...]:
    """Return the numbers of choices of discrete actions; empty for robots and continuous actions."""
    return robot.choices if isinstance(robot, ActionSpace) else ()


def check_continuous(robot: Robot, operation: str) -> None:
    """Raise ContractError for discrete actions.

    Args:
        robot: what a policy moves.
        operation: what needs continuous actions, for the message.
    """
    if choices_of(robot):
        raise ContractError(f"{operation} needs continuous actions; these are {robot.name}")


def any_bounds(actions: int) -> ActionSpace:
    """Return the action space of a policy whose actions span the bounds of each environment."""
    return ActionSpace((-1.0,) * actions, (1.0,) * actions, any_bounds=True)


def together(skills: Sequence[GymSkill], groups: Sequence[str] | None = None) -> list[GymSkill]:
    """Return skills of several environments with all of their groups in all of them; absent ones are zeros.

    Args:
        skills: the skills.
        groups: the groups to keep, in order; None for all, in the order of the skills.

    Raises:
        UnknownNameError: for a group to keep that no skill has.
        ContractError: if two environments have groups of one name and different sizes.
    """
    sizes: dict[str, int] = {}
    owner: dict[str, GymSkill] = {}
    for skill in skills:
        for name in skill.groups:
            size = skill.group_sizes[name]
            if sizes.setdefault(name, size) != size:
                other = owner[name]
                raise ContractError(
                    f"observation group '{name}' has {sizes[name]} features in {other.id} and {size} in {skill.id}; "
                    f"name the groups of each environment, for example {PREFIX}{skill.env_id}[own_name=0:{size}]"
                )
            owner.setdefault(name, skill)
    for name in groups or ():
        if name not in sizes:
            raise UnknownNameError(f"observation group of {' and '.join(s.id for s in skills)}:", name, sizes)
    chosen = sizes if groups is None else {name: sizes[name] for name in groups}
    return [offering(skill, chosen) for skill in skills]


def offering(skill: GymSkill, sizes: Mapping[str, int]) -> GymSkill:
    """Return a skill with the groups of ``sizes``, name to size; those that its environment lacks are absent."""
    absent = tuple((name, size) for name, size in sizes.items() if name not in skill.own_sizes)
    return replace(skill, groups=tuple(sizes), absent=absent)


def _slices(text: str) -> list[tuple[str, int, int]]:
    found = []
    for part in text.split(","):
        match = _SLICE.fullmatch(part)
        if match is None:
            raise ConfigError(f"groups are given as [{text}]; write [name=first:end,...], for example [body=0:14]")
        start, stop = int(match["start"]), int(match["stop"])
        found.append((match["name"], start, stop - start))
    if len({name for name, _, _ in found}) != len(found):
        raise ConfigError(f"groups are given as [{text}]; give every name once")
    return found


def _kwargs(text: str) -> str:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"keyword arguments '{text}' are not JSON: {error}") from None
    if not isinstance(given, dict):
        raise ConfigError(f"keyword arguments '{text}' must be a JSON object")
    return json.dumps(given, sort_keys=True)
