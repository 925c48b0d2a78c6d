"""Registration with gymnasium: ids such as ``policykd/Biped-v0`` for ``gymnasium.make`` and ``gymnasium.make_vec``.

``import policykd.envs`` registers the ids, and so does the module prefix in
``gymnasium.make("policykd.envs:policykd/Biped-v0")``. Heavy packages are imported only when an environment is made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium

from policykd.envs.robots import get_robot, robot_names

if TYPE_CHECKING:
    from policykd.envs.gym_env import SkillEnv
    from policykd.envs.gym_vector_env import SkillVectorEnv
    from policykd.envs.skills import Skill


def environment_id(robot: str) -> str:
    """Return the id of a robot's environment: ``policykd/MyDog-v0`` for ``my_dog`` and ``my-dog``."""
    return f"policykd/{re.sub('[_-]', ' ', robot).title().replace(' ', '')}-v0"


def register_environments() -> None:
    """Register an environment per robot with gymnasium, for robots that are not registered yet.

    Call it again after :func:`policykd.envs.robots.register_robot`.
    """
    for robot in robot_names():
        name = environment_id(robot)
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="policykd.envs.registration:make_env",
                vector_entry_point="policykd.envs.registration:make_vector_env",
                kwargs={"robot": robot},
            )


def make_env(
    *, robot: str, render_mode: str | None = None, width: int = 640, height: int = 360, **options: Any
) -> SkillEnv:
    """Return an environment of one simulation, as ``gymnasium.make("policykd/Biped-v0", terrain="steps")`` does.

    Args:
        robot: name of the robot.
        render_mode: ``rgb_array`` or None.
        width: width of an image, pixels.
        height: height of an image, pixels.
        options: ``terrain``, ``preset``, ``difficulty``, ``task``, ``groups``, ``episode_steps``, ``seed`` (of the
            tracks) and the fields of :class:`~policykd.envs.batched_env.EnvConfig`.

    Raises:
        UnknownNameError: for an unknown option, terrain, preset, task or group; close matches are named.
    """
    from policykd.envs.gym_env import SkillEnv

    skill, seed, config = _skill_and_config(robot, options)
    return SkillEnv(skill, seed=seed, config=config, render_mode=render_mode, width=width, height=height)


def make_vector_env(
    *, robot: str, num_envs: int = 1, threads: int | None = None, render_mode: None = None, **options: Any
) -> SkillVectorEnv:
    """Return an environment of many simulations, as ``gymnasium.make_vec("policykd/Biped-v0", num_envs=256)`` does.

    Args:
        robot: name of the robot.
        num_envs: number of simulations.
        threads: worker threads; None for one per usable core.
        render_mode: None; batches do not render.
        options: as for :func:`make_env`.

    Raises:
        UnknownNameError: for an unknown option, terrain, preset, task or group; close matches are named.
        ConfigError: for a render mode.
    """
    from policykd.envs.batched_env import BatchedEnv
    from policykd.envs.gym_vector_env import SkillVectorEnv
    from policykd.errors import ConfigError

    if render_mode is not None:
        raise ConfigError(f"render_mode is '{render_mode}'; batches do not render: use None here, or gymnasium.make")
    skill, seed, config = _skill_and_config(robot, options)
    return SkillVectorEnv(BatchedEnv([skill], num_envs, seed=seed, config=config, threads=threads))


def _skill_and_config(robot: str, options: dict[str, Any]) -> tuple[Skill, int, Any]:
    import dataclasses

    from policykd.envs.batched_env import EnvConfig
    from policykd.envs.skills import Skill, default_groups
    from policykd.envs.tasks import get_task
    from policykd.envs.terrains import Terrain
    from policykd.errors import UnknownNameError

    given, body = dict(options), get_robot(robot)
    terrain = Terrain(given.pop("terrain", "flat"), given.pop("preset", ""), given.pop("difficulty", 1.0))
    task = get_task(given.pop("task", body.default_task))
    groups: Sequence[str] = given.pop("groups", default_groups(task, terrain))
    steps = given.pop("episode_steps", body.episode_steps)
    seed = given.pop("seed", 0)
    fields = {field.name for field in dataclasses.fields(EnvConfig)}
    for name in given:
        if name not in fields:
            known = {"terrain", "preset", "difficulty", "task", "groups", "episode_steps", "seed"}
            raise UnknownNameError("environment option", name, known | fields)
    return Skill(body, terrain, task, tuple(groups), steps), seed, EnvConfig(**given)
