"""The tables of ``policykd skills``: skills, tasks and suites."""

from __future__ import annotations

import math

from rich.table import Table

from policykd.envs.skills import Skill, get_skill, skill_ids
from policykd.envs.suites import get_suite, suite_names
from policykd.envs.tasks import get_task, task_names


def skill_tables() -> list[Table]:
    """What there is to train on."""
    return [_skills(), _tasks(), _suites()]


def _skills() -> Table:
    table = Table("skill", "task", "observation groups (features)", "episode")
    for skill in map(get_skill, skill_ids()):
        task = f"walk {skill.task.speed} m/s"
        table.add_row(skill.id, task, _groups(skill), f"{skill.episode_steps} steps, {skill.seconds:.1f} s")
    return table


def _tasks() -> Table:
    table = Table("task", "speed", "observation groups (features)", "success", "what it is")
    for name in task_names():
        task, skill = get_task(name), get_skill(f"biped/flat+{name}")
        low, high = task.goal(skill.seconds)
        ends = f"ends beyond {low:.1f} m" if math.isfinite(low) else f"ends beyond {high:.1f} m"
        about = (type(task).__doc__ or "").partition("\n")[0]
        table.add_row(f"+{name}", f"{task.speed} m/s", _groups(skill), ends, about)
    return table


def _suites() -> Table:
    table = Table("suite", "skills", "observation groups (features)")
    for name in suite_names():
        skills = get_suite(name)
        table.add_row(name, " ".join(skill.id for skill in skills), _groups(skills[0]))
    return table


def _groups(skill: Skill) -> str:
    return ", ".join(f"{name} ({size})" for name, size in skill.group_sizes.items())
