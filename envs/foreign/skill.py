"""Skills in gymnasium environments, and what stands for the robot in them.

``gym_skill`` makes one from text. A flat observation can be sliced into named groups, so that a student can leave some
out or get others injected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from typing_extensions import override

from policykd.envs.foreign.spaces import OBSERVATION, EnvironmentSpaces, environment_spaces
from policykd.envs.robots import Robot
from policykd.envs.robots.robot import Family, Servo
from policykd.envs.skills import Skill
from policykd.envs.tasks.base import Situation, Task
from policykd.envs.terrains import Terrain
from policykd.errors import ConfigError, ContractError, UnknownNameError

PREFIX = "gym:"
"""Begin of the ids of these skills."""

TASK_ID = "task_id"
"""Observation group that tells a student which of several tasks it has: one number per task, one of them 1."""

_ID = re.compile(rf"{PREFIX}(?P<env>[^?]+)(\?(?P<kwargs>.+))?")


@dataclass(frozen=True)
class ActionSpace(Robot):
    """The actions of an environment, in the place of a robot: policies act in [-1, 1], which spans the bounds.

    Attributes:
        low: lower bounds of the actions, in the environment's units.
        high: upper bounds.
        dt: time between two actions, s.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    dt: float = 1.0

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

    Raises:
        ConfigError: for slices that do not fit the observation.
    """

    env_id: str = field(kw_only=True)
    kwargs: str = field(default="{}", kw_only=True)
    slices: tuple[tuple[str, int, int], ...] = field(default=(), kw_only=True)
    tasks: int = field(default=1, kw_only=True)
    task_number: int = field(default=0, kw_only=True)

    @override
    def __post_init__(self) -> None:
        size = sum(n for _, n in self.spaces.groups)
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
    def _sizes(self) -> dict[str, int]:
        own = {name: count for name, _, count in self.slices} or dict(self.spaces.groups)
        return {**own, TASK_ID: self.tasks} if self.tasks > 1 else own

    @property
    @override
    def id(self) -> str:
        number = f"#{self.task_number}" if self.tasks > 1 else ""
        return f"{PREFIX}{self.env_id}" + ("" if self.kwargs == "{}" else f"?{self.kwargs}") + number

    @property
    @override
    def short(self) -> str:
        return self.id

    @property
    @override
    def slug(self) -> str:
        return re.sub(r"[^\w.-]+", "-", self.id.removeprefix(PREFIX)).strip("-")

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
) -> GymSkill:
    """Return the skill of an id: ``gym:BipedalWalker-v3`` or ``gym:Walker2d-v5?{"ctrl_cost_weight": 0.01}``.

    Args:
        text: the id.
        groups: observation groups; None for all of the environment's.
        slices: named groups of a flat observation.
        tasks: number of tasks of the group ``task_id``.
        task_number: number of this task among them.

    Raises:
        UnknownNameError: for an environment or group that does not exist; close matches are named.
        ConfigError: for keyword arguments that are not a JSON object, or an environment that cannot be made.
        ContractError: for spaces that are not boxes.
    """
    match = _ID.fullmatch(text)
    if match is None:
        raise ConfigError(f"'{text}' is not a gymnasium skill; write gym:ID, for example gym:BipedalWalker-v3")
    kwargs = _kwargs(match["kwargs"] or "{}")
    spaces = environment_spaces(match["env"], kwargs)
    if slices and spaces.groups[0][0] != OBSERVATION:
        raise ConfigError(f"{match['env']} has named groups already: {', '.join(name for name, _ in spaces.groups)}")
    own = [name for name, _, _ in slices] or [name for name, _ in spaces.groups]
    chosen = tuple(own + ([TASK_ID] if tasks > 1 else []) if groups is None else groups)
    robot = ActionSpace(spaces.low, spaces.high, spaces.control_dt)
    return GymSkill(
        robot, Terrain("flat"), EnvironmentReward(), chosen, spaces.episode_steps,
        env_id=match["env"], kwargs=kwargs, slices=tuple(slices), tasks=tasks, task_number=task_number,
    )  # fmt: skip


def gym_record(skill: GymSkill) -> dict[str, Any]:
    """Return a skill as JSON values; :func:`gym_from_record` reads it."""
    return {
        "id": skill.id,
        "environment": {"id": skill.env_id, "kwargs": json.loads(skill.kwargs)},
        "slices": [list(s) for s in skill.slices],
        "tasks": [skill.task_number, skill.tasks],
        "groups": list(skill.groups),
    }


def gym_from_record(record: Any, groups: Sequence[str] | None = None) -> GymSkill:
    """Return the skill of a record made by :func:`gym_record`.

    Raises:
        ConfigError: for a malformed record.
    """
    try:
        number, tasks = (int(n) for n in record["tasks"])
        slices = [(str(name), int(start), int(count)) for name, start, count in record["slices"]]
        own = [str(name) for name in record["groups"]]
        text = str(record["id"]).removesuffix(f"#{number}")
        chosen = own if groups is None else groups
        return gym_skill(text, chosen, slices=slices, tasks=tasks, task_number=number)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"the record of a gymnasium skill is not valid: {error}") from None


def _kwargs(text: str) -> str:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"keyword arguments '{text}' are not JSON: {error}") from None
    if not isinstance(given, dict):
        raise ConfigError(f"keyword arguments '{text}' must be a JSON object")
    return json.dumps(given, sort_keys=True)
