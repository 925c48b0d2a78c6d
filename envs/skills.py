"""Skills: robot, terrain, task and observation groups as one frozen record with an id.

It describes only: MuJoCo is loaded where environments are built.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise

from policykd.envs.observations import get_group, group_names, group_sizes
from policykd.envs.robots import Robot, get_robot, robot_names
from policykd.envs.tasks import Task, Walk, get_task, task_name
from policykd.envs.terrains import Terrain, terrain_names
from policykd.errors import ConfigError, ContractError, UnknownNameError

_ID = re.compile(
    r"(?P<robot>[^/:@+]+)/(?P<terrain>[^/:@+]+)(:(?P<preset>[^/:@+]+))?(@(?P<difficulty>[^/:@+]+))?(\+(?P<task>[^/:@+]+))?"
)

_KINDS = {
    "plane": ("moves in a plane", "walk"),
    "space": ("moves in space", "velocity"),
    "gymnasium": ("stands for the actions of a gymnasium environment", "gymnasium"),
    "model": ("is simulated as its model file says", "forward"),
}
"""How a family of robots moves, and a task that fits it."""

DEFAULT_GROUPS = ("proprio", "terrain")


@dataclass(frozen=True)
class Skill:
    """A task of one robot on one terrain, and the observation groups that its policies read.

    Attributes:
        robot: the robot.
        terrain: the terrain.
        task: definition of rewards, initial states and success.
        groups: observation groups, in the order of a flat observation.
        episode_steps: policy steps after which an episode is truncated.

    Raises:
        UnknownNameError: for an unknown observation group.
        ConfigError: for no group, a repeated group, or episodes shorter than one step.
    """

    robot: Robot
    terrain: Terrain
    task: Task = field(default_factory=Walk)
    groups: tuple[str, ...] = DEFAULT_GROUPS
    episode_steps: int = 256

    def __post_init__(self) -> None:
        self._check_robot()
        group_sizes(self.groups, self.robot)
        self._check_scanners()
        if not self.groups or len(set(self.groups)) != len(self.groups):
            raise ConfigError(f"groups are {self.groups}; give at least one, each once (valid: {group_names()})")
        if self.episode_steps < 1:
            raise ConfigError(f"episode_steps is {self.episode_steps}; it must be at least 1")

    def _check_robot(self) -> None:
        if not self.task.fits(self.robot):
            kind, fitting = _KINDS[self.robot.family]
            raise ContractError(
                f"the task {task_name(self.task)} does not fit {self.robot.name}, which {kind}; use a task such as "
                f"{fitting}"
            )
        allowed = self.robot.terrains
        if allowed is not None and self.terrain.name not in allowed:
            raise ContractError(
                f"{self.robot.name} is simulated with the ground of its own model; it has no terrain but "
                f"{', '.join(allowed)}, got {self.terrain.name}"
            )
        if self.terrain.varies_across and not self.robot.spatial:
            raise ContractError(
                f"the terrain {self.terrain.name} varies across the track, but {self.robot.name} moves in a plane; "
                f"use one of {', '.join(terrain_names(planar=True))}"
            )

    def _check_scanners(self) -> None:
        """Raise if a scanner is too coarse for the features of the ground."""
        smallest = self.terrain.smallest
        for group in map(get_group, self.groups):
            if smallest is not None and group.spacing is not None and group.spacing >= smallest / 2:
                raise ContractError(
                    f"{self.id}: samples of the scanner {group.name} are {group.spacing:g} leg lengths apart, but the "
                    f"smallest feature of the terrain is {smallest:g}; it must be more than twice the spacing"
                )

    @property
    def id(self) -> str:
        """``robot/terrain``, with ``:preset``, ``@difficulty`` and ``+task`` unless they are the defaults.

        The id is for people and does not include parameters of a terrain or task, groups and episode length:
        :func:`policykd.envs.skill_records.skill_record` keeps the whole skill.
        """
        return f"{self.robot.name}/{self.short}"

    @property
    def short(self) -> str:
        """The id without the robot, for tables of one robot's skills."""
        default = Terrain(self.terrain.name)
        preset = f":{self.terrain.preset}" if self.terrain.preset != default.preset else ""
        difficulty = f"@{self.terrain.difficulty:g}" if self.terrain.difficulty != default.difficulty else ""
        name = task_name(self.task)
        task = f"+{name}" if name != self.robot.default_task else ""
        return f"{self.terrain.name}{preset}{difficulty}{task}"

    @property
    def slug(self) -> str:
        """Name of the skill's files and folders: the short id in characters that are valid in every file system."""
        return slug(self.short)

    @property
    def group_sizes(self) -> dict[str, int]:
        """Number of features of each observation group, in order."""
        return group_sizes(self.groups, self.robot)

    @property
    def absent_groups(self) -> tuple[str, ...]:
        """Groups that are always zero, because the environment does not have them; see ``policykd.envs.foreign``."""
        return ()

    @property
    def columns(self) -> dict[str, slice]:
        """Columns of each observation group in a flat observation."""
        ends = list(accumulate(self.group_sizes.values(), initial=0))
        return {name: slice(*span) for name, span in zip(self.groups, pairwise(ends), strict=True)}

    @property
    def seconds(self) -> float:
        """Length of a whole episode, s."""
        return self.episode_steps * self.robot.control_dt


def lasting(skill: Skill, seconds: float) -> Skill:
    """Return a skill whose episodes take this long, on tracks that are long enough for it.

    Args:
        skill: a skill of one of policykd's robots.
        seconds: length of an episode, s; rounded to whole steps.

    Raises:
        ContractError: for a gymnasium environment, which ends its episodes itself.
        ConfigError: for less than one step.
    """
    if skill.robot.family == "gymnasium":
        raise ContractError(f"{skill.id} ends its episodes itself; the length of an episode cannot be set")
    if not seconds >= skill.robot.control_dt:
        raise ConfigError(f"episodes of {seconds:g} s are shorter than one step, {skill.robot.control_dt:g} s")
    return replace(skill, episode_steps=round(seconds / skill.robot.control_dt))


def slug(skill_id: str) -> str:
    """Return the file name of a skill: its id without the robot, in characters that are valid in every file system."""
    return skill_id.rpartition("/")[2].replace(":", "-").replace("@", "-")


def folder_names(skills: Sequence[Skill]) -> list[str]:
    """Return distinct folder names of skills: slugs, with the robot's name as a prefix if there are several robots.

    Raises:
        ConfigError: if two skills have the same id.
    """
    several = len({skill.robot.name for skill in skills}) > 1
    names = [f"{skill.robot.name}-{skill.slug}" if several else skill.slug for skill in skills]
    repeated = [skill.id for skill, name in zip(skills, names, strict=True) if names.count(name) > 1]
    if repeated:
        raise ConfigError(f"skill {repeated[0]} was given more than once; give every skill once")
    return names


def skill_ids() -> list[str]:
    """Return the ids of the skills with the default task, preset and difficulty."""
    robots = {name: get_robot(name) for name in robot_names()}
    grounds = {name: robot.terrains or terrain_names(planar=not robot.spatial) for name, robot in robots.items()}
    return [f"{name}/{terrain}" for name in robots for terrain in grounds[name]]


def get_skill(skill_id: str, groups: Sequence[str] | None = None) -> Skill:
    """Return the skill of an id, made of registered robots, terrains and tasks; no code is imported.

    Args:
        skill_id: ``robot/terrain[:preset][@difficulty][+task]``, for example ``biped/gaps:terrainrlsim@0.5`` or
            ``biped/flat+hop``.
        groups: observation groups; None for those of the task, with ``area`` instead of ``scan`` on maps.

    Raises:
        UnknownNameError: for an unknown skill, preset, task or group; close matches are named.
        ConfigError: for a difficulty that is not a number in [0, 1].
    """
    match = _ID.fullmatch(skill_id)
    if match is None or match["robot"] not in robot_names() or match["terrain"] not in terrain_names():
        ids = skill_ids()
        of_robot = [known for known in ids if match and known.startswith(f"{match['robot']}/")]
        raise UnknownNameError("skill", skill_id, of_robot or ids)
    try:
        difficulty = float(match["difficulty"] or 1.0)
    except ValueError:
        raise ConfigError(f"difficulty is '{match['difficulty']}'; it must be a number in [0, 1]") from None
    terrain = Terrain(match["terrain"], match["preset"] or "", difficulty)
    robot = get_robot(match["robot"])
    task = get_task(match["task"] or robot.default_task)
    chosen = default_groups(task, terrain) if groups is None else tuple(groups)
    return Skill(robot, terrain, task, chosen, robot.episode_steps)


def default_groups(task: Task, terrain: Terrain) -> tuple[str, ...]:
    """Return the groups of the task; on ground that varies across the track, the scanner of an area."""
    return tuple("area" if name == "scan" and terrain.varies_across else name for name in task.groups)


def _property(skill: Skill, name: str) -> object:
    if name in ("robot", "actions"):
        whole = name == "robot" or bool(getattr(skill.robot, "choices", None))
        return skill.robot.name if whole else f"{skill.robot.num_actions} actions"
    return getattr(skill, name)


def common_contract(skills: Sequence[Skill]) -> Skill:
    """Return the first skill, after checking that the others have the same robot, groups and episode length.

    Skills of gymnasium environments have to share the number of actions and the groups.

    Raises:
        ContractError: naming the skill that differs and the difference.
    """
    if not skills:
        raise ConfigError("no skill was given; name at least one, for example biped/flat")
    first = skills[0]
    for other in skills[1:]:
        # Policies act in [-1, 1], which spans the bounds of an environment: only the number of actions matters there.
        foreign = first.robot.family == "gymnasium" == other.robot.family
        for name in ("actions", "groups") if foreign else ("robot", "groups", "episode_steps"):
            mine, theirs = (_property(skill, name) for skill in (first, other))
            if mine != theirs:
                raise ContractError(
                    f"skills of one environment must share their {name}: {first.id} has {mine}, {other.id} has {theirs}"
                )
    return first
