"""Simulation: robots, terrains, skills, and batched environments with gymnasium and stable-baselines3 interfaces.

The layers are ``robots``, ``terrains`` and ``physics``, then ``kinematics``, ``observations``, ``tasks`` and
``skills``, then ``batched_env``. Its interfaces are ``gym_vector_env``, ``gym_env`` and ``sb3_vec_env``;
``rendering`` draws. Nothing here depends on policies.

Importing this package registers ``policykd/Biped-v0`` with gymnasium, where that is installed. The names below are
imported at first use.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policykd.envs.batched_env import BatchedEnv
    from policykd.envs.env_records import EnvConfig, Step
    from policykd.envs.gym_env import SkillEnv
    from policykd.envs.gym_vector_env import SkillVectorEnv
    from policykd.envs.rendering import SceneRenderer, build_scene
    from policykd.envs.sb3_vec_env import Sb3VecEnv
    from policykd.envs.skills import Skill, get_skill, skill_ids
    from policykd.envs.suites import get_suite, suite_names
    from policykd.envs.tasks import Task, Walk, task_names
    from policykd.envs.terrains import Terrain, terrain_names

_HOME = {
    "BatchedEnv": "batched_env",
    "EnvConfig": "env_records",
    "Sb3VecEnv": "sb3_vec_env",
    "SceneRenderer": "rendering",
    "Skill": "skills",
    "SkillEnv": "gym_env",
    "SkillVectorEnv": "gym_vector_env",
    "Step": "env_records",
    "Terrain": "terrains",
    "Walk": "tasks",
    "build_scene": "rendering",
    "Task": "tasks",
    "get_skill": "skills",
    "get_suite": "suites",
    "skill_ids": "skills",
    "suite_names": "suites",
    "task_names": "tasks",
    "terrain_names": "terrains",
}

__all__ = [
    "BatchedEnv",
    "EnvConfig",
    "Sb3VecEnv",
    "SceneRenderer",
    "Skill",
    "SkillEnv",
    "SkillVectorEnv",
    "Step",
    "Task",
    "Terrain",
    "Walk",
    "build_scene",
    "get_skill",
    "get_suite",
    "register_environments",
    "skill_ids",
    "suite_names",
    "task_names",
    "terrain_names",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


if importlib.util.find_spec("gymnasium"):  # supervised distillation works without it
    from policykd.envs.registration import register_environments

    register_environments()
