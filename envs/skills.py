"""Skills: robot + terrain + task + observation groups as one frozen record with an id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from policykd.envs.observations import group_names, group_sizes
from policykd.envs.robots import Robot, get_robot, robot_names
from policykd.envs.tasks import Task, Walk, get_task, task_name
from policykd.envs.terrains import PRESETS, Terrain, terrain_names
from policykd.errors import ConfigError, ContractError, UnknownNameError

_ID = re.compile(
    r"(?P<robot>[^/:@+]+)/(?P<terrain>[^/:@+]+)(:(?P<preset>[^/:@+]+))?(@(?P<difficulty>[^/:@+]+))?(\+(?P<task>[^/:@+]+))?"
)

DEFAULT_GROUPS = ("proprio", "terrain")
DEFAULT_TASK = "walk"


@dataclass(frozen=True)
class Skill:
    """What a policy is to do, and what it sees.

    Attributes:
        robot: name of the robot.
        terrain: ground it walks on.
        task: what is rewarded.
        groups: observation groups, in the order in which a flat observation holds them.
        episode_steps: policy steps after which an episode is truncated.

    Raises:
        UnknownNameError: for an unknown robot or observation group.
        ConfigError: for no group, a repeated group, or episodes shorter than one step.
    """

    robot: str
    terrain: Terrain
    task: Task = field(default_factory=Walk)
    groups: tuple[str, ...] = DEFAULT_GROUPS
    episode_steps: int = 256

    def __post_init__(self) -> None:
        get_robot(self.robot)
        group_sizes(self.groups, self.character)
        if not self.groups or len(set(self.groups)) != len(self.groups):
            raise ConfigError(f"groups are {self.groups}; give at least one, each once (valid: {group_names()})")
        if self.episode_steps < 1:
            raise ConfigError(f"episode_steps is {self.episode_steps}; it must be at least 1")

    @property
    def id(self) -> str:
        """``robot/terrain``, with ``:preset``, ``@difficulty`` and ``+task`` where they are not the defaults.

        A task with parameters of its own goes by the name of its kind, so it cannot be told from the id.
        """
        default = Terrain(self.terrain.name)
        preset = f":{self.terrain.preset}" if self.terrain.preset != default.preset else ""
        difficulty = f"@{self.terrain.difficulty:g}" if self.terrain.difficulty != default.difficulty else ""
        name = task_name(self.task)
        task = f"+{name}" if name != DEFAULT_TASK else ""
        return f"{self.robot}/{self.terrain.name}{preset}{difficulty}{task}"

    @property
    def character(self) -> Robot:
        """The robot's table."""
        return get_robot(self.robot)

    @property
    def group_sizes(self) -> dict[str, int]:
        """Number of features of each observation group, in order."""
        return group_sizes(self.groups, self.character)

    @property
    def columns(self) -> dict[str, slice]:
        """Columns of each observation group in a flat observation, which holds the groups in order."""
        ends = list(accumulate(self.group_sizes.values(), initial=0))
        return {name: slice(*span) for name, span in zip(self.groups, pairwise(ends), strict=True)}

    @property
    def seconds(self) -> float:
        """Length of a whole episode, s."""
        return self.episode_steps * self.character.control_dt


def skill_ids() -> list[str]:
    """Ids of the skills of the default task at their default preset and difficulty; every task goes with each."""
    return [f"{robot}/{terrain}" for robot in robot_names() for terrain in terrain_names()]


def get_skill(skill_id: str, groups: Sequence[str] | None = None) -> Skill:
    """The skill of an id.

    Args:
        skill_id: ``robot/terrain[:preset][@difficulty][+task]``, for example ``biped/gaps:terrainrlsim@0.5`` or
            ``biped/flat+hop``.
        groups: observation groups; None for those of the task.

    Raises:
        UnknownNameError: for an unknown skill, preset, task or group, with the close matches.
        ConfigError: for a difficulty that is not a number in [0, 1].
    """
    match = _ID.fullmatch(skill_id)
    if match is None or f"{match['robot']}/{match['terrain']}" not in skill_ids():
        raise UnknownNameError("skill", skill_id, skill_ids())
    if match["preset"] and match["preset"] not in PRESETS:
        raise UnknownNameError("terrain preset", match["preset"], PRESETS)
    try:
        difficulty = float(match["difficulty"] or 1.0)
    except ValueError:
        raise ConfigError(f"difficulty is '{match['difficulty']}'; it must be a number in [0, 1]") from None
    terrain = Terrain(match["terrain"], match["preset"] or "paper", difficulty)
    task = get_task(match["task"] or DEFAULT_TASK)
    return Skill(match["robot"], terrain, task, task.groups if groups is None else tuple(groups))


def common_contract(skills: Sequence[Skill]) -> Skill:
    """The first skill, after checking that the others share its robot, groups and episode length.

    Raises:
        ContractError: naming the skill that differs, and in what.
    """
    if not skills:
        raise ConfigError("no skill was given; name at least one, for example biped/flat")
    first = skills[0]
    for other in skills[1:]:
        for name in ("robot", "groups", "episode_steps"):
            mine, theirs = getattr(first, name), getattr(other, name)
            if mine != theirs:
                raise ContractError(
                    f"skills of one environment must share their {name}: {first.id} has {mine}, {other.id} has {theirs}"
                )
    return first
