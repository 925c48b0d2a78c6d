"""Tasks of Meta-World that one student learns one after the other: success when learned and at the end, forgetting.

    python -m venv mw && mw/bin/pip install metaworld -e '.[gym]'   # it pins another MuJoCo than the extra [sim]
    mw/bin/python benchmarks/meta_world_one_by_one.py --suite MT10 --out results/benchmarks/metaworld-one-by-one.json

Every stage merges one scripted expert into the student of the stage before. Earlier tasks are not simulated anymore:
their stored labeled states are replayed. What a task lost is its success when it was learned, less that at the end. The
same command continues an interrupted run.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from meta_world import MERGE, names_of, success_of, teachers_of
from policykd.agents.files.policy_file import load_policy
from policykd.cli.output import Bars
from policykd.environment import environment
from policykd.merge import MergeConfig, MergeResult, merge_experts
from policykd.merge.teachers import Teacher
from policykd.plain import as_plain
from policykd.storage import prepare_file, write_json

FIRST = replace(MERGE, rounds=4, envs=12, updates=600, minibatch=512, optimizer="kfac", step_length=0.02)
"""Merge of the first task."""
ADD = replace(FIRST, start="previous", protection="replay", normalizer="extended", step_length=0.01)
"""Merge of every other task into the student; all earlier states are replayed."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    suite: str = "MT10"
    """Suite of Meta-World: MT10 or MT50."""
    tasks: int = 0
    """First tasks of the suite to take; 0 for all."""
    episodes: int = 50
    """Evaluation episodes per task, when it was learned and at the end."""
    rounds: int = FIRST.rounds
    """Rounds of every merge."""
    envs: int = FIRST.envs
    """Copies of the task that is learned."""
    seed: int = 0
    """Seed of the merges and the evaluation."""
    run: Path = Path("results/metaworld-one-by-one")
    """Folder of the merges, which are continued if they were interrupted."""
    out: Path = Path("results/benchmarks/metaworld-one-by-one.json")
    """JSON file."""


def config_of(stage: int, options: Options) -> MergeConfig:
    """Return the merge of a stage, from 0."""
    base = FIRST if stage == 0 else ADD
    return replace(base, rounds=options.rounds, envs=options.envs, seed=options.seed, threads=1)


def main(options: Options) -> None:
    """Learn the tasks, evaluate, print and save."""
    prepare_file(options.out)
    warnings.filterwarnings("ignore", module="gymnasium")
    torch.set_num_threads(1)
    names = names_of(options.suite, options.tasks, options.seed)
    teachers, console = teachers_of(names), Console()
    folders = [options.run / f"{stage:02d}-{name}" for stage, name in enumerate(names)]
    merges = [learn(stage, teacher, folders, options, console) for stage, teacher in enumerate(teachers)]
    rows = [row_of(stage, name, teachers, folders, options) for stage, name in enumerate(names)]
    _print(console, options.suite, rows)
    write_json(options.out, {
        "suite": options.suite, "options": as_plain(options), "first": as_plain(config_of(0, options)),
        "others": as_plain(config_of(1, options)), "tasks": rows,
        "states": sum(one.states for one in merges), "merge_seconds": sum(one.seconds for one in merges),
        **{name: float(np.mean([row[name] for row in rows])) for name in ("expert", "learned", "student", "forgotten")},
        "environment": environment(("gymnasium", "metaworld", "mujoco", "torch")),
    })  # fmt: skip


def learn(stage: int, teacher: Teacher, folders: Sequence[Path], options: Options, console: Console) -> MergeResult:
    """Merge the expert of a stage into the student of the one before."""
    init = load_policy(folders[stage - 1] / "policy") if stage else None
    return merge_experts(
        [teacher], folders[stage], config_of(stage, options), init=init, old=folders[:stage], resume=True,
        progress=Bars(console),
    )  # fmt: skip


def row_of(
    stage: int, name: str, teachers: Sequence[Teacher], folders: Sequence[Path], options: Options
) -> dict[str, Any]:
    """Return the success on one task of its expert, of the student that had just learned it, and of the last one."""
    teacher = teachers[stage]
    policies = {
        "expert": teacher.policy,
        "learned": load_policy(folders[stage] / "policy").policy,
        "student": load_policy(folders[-1] / "policy").policy,
    }
    found = {
        which: success_of(policy, teacher.skill, options.episodes, options.seed) for which, policy in policies.items()
    }
    last = found["student"]
    return {
        "task": name,
        **{which: success.estimate for which, success in found.items()},
        "low": last.low,
        "high": last.high,
        "forgotten": found["learned"].estimate - last.estimate,
    }


def _print(console: Console, suite: str, rows: Sequence[dict[str, Any]]) -> None:
    table = Table("task", "scripted expert", "when learned", "at the end [95 % interval]", title=f"{suite}: success")
    for row in rows:
        end = f"{row['student']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        table.add_row(row["task"], f"{row['expert']:.2f}", f"{row['learned']:.2f}", end)
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
