"""Scripted experts of Meta-World merged into one student: success per task, labeled states and time.

    python -m venv mw && mw/bin/pip install metaworld -e '.[gym]'   # it pins another MuJoCo than the extra [sim]
    mw/bin/python benchmarks/meta_world.py --suite MT10 --out results/benchmarks/metaworld.json

Every task is a gymnasium environment with its goal in the observation; the teacher is the function that Meta-World
ships for it, which reads the 39 numbers of the environment and not the task's number. Episodes have 200 steps, and
count as a success if the environment reports one in any of them, as Meta-World counts.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import gymnasium
import metaworld
import mujoco
import numpy as np
import torch
import tyro
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from metaworld.policies import ENV_POLICY_MAP
from rich.console import Console
from rich.table import Table

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import load_policy
from policykd.agents.policy import Policy
from policykd.cli.output import Bars
from policykd.environment import environment
from policykd.envs.foreign.skill import GymSkill, gym_skill
from policykd.evaluation import evaluate
from policykd.merge import MergeConfig, function_teacher, merge_experts
from policykd.merge.teachers import Teacher
from policykd.plain import as_plain
from policykd.stats import Interval
from policykd.storage import prepare_file, write_json

OBSERVED = 39
"""Numbers of an observation that scripted experts read; the group ``task_id`` follows."""

TASK = "MetaWorldTask-v0"
"""Id under which this benchmark registers the tasks."""
STEPS = 200
"""Steps of an episode; scripted experts succeed within fewer, and the return compares policies only at equal length."""

MERGE = MergeConfig(
    rounds=12, envs=4, updates=1500, minibatch=1000, averaging=0.999, noise=0.05, adaptive=0.5, critic="none",
    min_teacher_success=0.5, validation_episodes=4, target_retention=0.99,
    architecture=Architecture(hidden=(256, 256, 256), critic_hidden=(8,), activation="relu"),
)  # fmt: skip


MERGES = {
    "MT10": MERGE,
    "MT50": replace(
        MERGE, rounds=6, optimizer="kfac", step_length=0.02, updates=800, minibatch=2000,
        architecture=replace(MERGE.architecture, hidden=(400, 400, 400)),
    ),
}  # fmt: skip
"""Merges by suite."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    suite: Literal["MT10", "MT50"] = "MT10"
    """Suite of Meta-World."""
    tasks: int = 0
    """First tasks of the suite to take; 0 for all."""
    episodes: int = 50
    """Evaluation episodes per task."""
    rounds: int = 0
    """Rounds of the merge; 0 for those of the suite."""
    envs: int = MERGE.envs
    """Copies of every task."""
    seed: int = 0
    """Seed of the merge and the evaluation."""
    run: Path = Path("results/metaworld")
    """Folder of the merge, which is continued if it was interrupted."""
    out: Path = Path("results/benchmarks/metaworld.json")
    """JSON file."""


def main(options: Options) -> None:
    """Merge, evaluate, print and save."""
    prepare_file(options.out)
    warnings.filterwarnings("ignore", module="gymnasium")
    torch.set_num_threads(1)
    names = names_of(options.suite, options.tasks, options.seed)
    teachers = teachers_of(names)
    merge = MERGES[options.suite]
    config = replace(merge, rounds=options.rounds or merge.rounds, envs=options.envs, seed=options.seed, threads=1)
    console = Console()
    merged = merge_experts(teachers, options.run, config, resume=True, progress=Bars(console))
    student = load_policy(merged.policy_path).policy
    rows = [_row(name, teacher, student, options) for name, teacher in zip(names, teachers, strict=True)]
    _print(console, options.suite, rows)
    write_json(options.out, {
        "suite": options.suite, "options": as_plain(options), "merge": as_plain(config), "tasks": rows,
        "mean": float(np.mean([row["student"] for row in rows])),
        "mean_expert": float(np.mean([row["expert"] for row in rows])),
        "states": merged.states, "rounds": merged.rounds, "merge_seconds": merged.seconds,
        "environment": environment(("gymnasium", "metaworld", "mujoco", "torch")),
    })  # fmt: skip


def names_of(suite: str, count: int, seed: int) -> list[str]:
    """Return the names of a suite's first tasks; of all for a count of 0."""
    names = list(getattr(metaworld, suite)(seed=seed).train_classes)
    return names[: count or len(names)]


def teachers_of(names: Sequence[str]) -> list[Teacher]:
    """Return the scripted experts of tasks, which are numbered in this order."""
    return [_teacher(name, number, len(names)) for number, name in enumerate(names)]


def success_of(policy: Policy, skill: GymSkill, episodes: int, seed: int) -> Interval:
    """Return a policy's success on a task, with its 95 % interval."""
    return evaluate({"policy": policy}, [skill], episodes=episodes, seed=seed).summaries["policy", skill.id].success


class MetaWorldTask(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A task of Meta-World with random goals and objects, which reports success in every step after the first one.

    Meta-World draws 50 goals when a task is made, and ignores the seed of a reset. Here every reset draws a goal, from
    the random numbers that the last seed began.

    Args:
        task: name of the task.
    """

    def __init__(self, task: str) -> None:
        with patch.object(MujocoEnv, "_initialize_simulation", _initialized):
            env = gymnasium.make("Meta-World/MT1", env_name=task, num_goals=1, disable_env_checker=True)
        super().__init__(env)
        self.env.reset()  # a task must be set before its goal may change
        self.env.get_wrapper_attr("toggle_sample_tasks_on_reset")(on=False)
        self.unwrapped.seeded_rand_vec, self.unwrapped._freeze_rand_vec = True, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self._succeeded = False
        if seed is not None:
            self.unwrapped.seed(seed)
        return super().reset(options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Advance the environment."""
        observation, reward, terminated, truncated, info = super().step(action)
        self._succeeded |= bool(info["success"])
        return observation, reward, terminated, truncated, {**info, "success": self._succeeded}


def _initialized(env: MujocoEnv) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """Return the simulation of an environment; its model is parsed once, which takes 0.2 s with all meshes."""
    model = copy.copy(_parsed(env.fullpath))
    return model, mujoco.MjData(model)


@cache
def _parsed(path: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(path)


gymnasium.register(TASK, entry_point=MetaWorldTask, max_episode_steps=STEPS)


def _teacher(name: str, number: int, count: int) -> Teacher:
    skill = gym_skill(f"gym:{TASK}?{json.dumps({'task': name})}", tasks=count, task_number=number)
    return function_teacher(f"Meta-World 3.1.1, {name}", _scripted(name), skill)


def _scripted(name: str) -> Callable[[np.ndarray], np.ndarray]:
    script = ENV_POLICY_MAP[name]()

    def act(observations: np.ndarray) -> np.ndarray:
        rows = observations[:, :OBSERVED].astype(np.float64)
        return np.stack([np.asarray(script.get_action(row), dtype=np.float64) for row in rows])

    return act


def _row(name: str, teacher: Teacher, student: Policy, options: Options) -> dict[str, float | str]:
    """Return the success of a task's expert and of the student on the same goals."""
    policies = {"expert": teacher.policy, "student": student}
    found = evaluate(policies, [teacher.skill], episodes=options.episodes, seed=options.seed).summaries
    expert, success = (found[which, teacher.skill.id].success for which in policies)
    return {"task": name, "expert": expert.estimate, "student": success.estimate, "low": success.low,
            "high": success.high}  # fmt: skip


def _print(console: Console, suite: str, rows: Sequence[dict[str, float | str]]) -> None:
    table = Table("task", "scripted expert", "student [95 % interval]", title=f"{suite}: success")
    for row in rows:
        table.add_row(
            str(row["task"]), f"{row['expert']:.2f}", f"{row['student']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        )
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
