"""``policykd skills``: list skills, tasks and suites, and draw a gallery of terrains.

Options and printing only; the work is in ``policykd.envs``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from policykd.cli.output import say_where

if TYPE_CHECKING:
    from policykd.envs.skills import Skill


@dataclass(frozen=True)
class Skills:
    """List the skills, tasks and suites."""

    gallery: Path | None = None
    """Draw every terrain into this PNG file."""
    preset: str = "paper"
    """Terrain parameters of the gallery: paper, terrainrlsim or hard."""
    difficulty: float = 1.0
    """Difficulty of the gallery's terrains, 0 to 1."""
    seed: int = 0
    """Seed of the gallery's tracks."""

    def run(self, console: Console) -> None:
        """Print the tables and, on request, draw the gallery.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.storage import prepare_file

        if self.gallery:
            prepare_file(self.gallery)
        for table in (_skills(), _tasks(), _suites()):
            console.print(table)
        console.print(
            "append :terrainrlsim for the terrain parameters of PLAID's released simulator or :hard for harder ones, "
            "@0.5 for half the difficulty, +hop for another task: biped/gaps:hard@0.5, biped/flat+hop"
        )
        if self.gallery:
            self._draw(self.gallery)
            say_where(console, self.gallery)

    def _draw(self, path: Path) -> None:
        from policykd.envs.skills import get_skill, skill_ids
        from policykd.envs.terrains import Terrain
        from policykd.report.plots.terrains import draw_gallery

        shown = [get_skill(name) for name in skill_ids()]
        terrain = [Terrain(s.terrain.name, self.preset, self.difficulty) for s in shown]
        draw_gallery([replace(s, terrain=t) for s, t in zip(shown, terrain, strict=True)], path, seed=self.seed)


def _skills() -> Table:
    from policykd.envs.skills import get_skill, skill_ids

    table = Table("skill", "task", "observation groups (features)", "episode")
    for skill in map(get_skill, skill_ids()):
        task = f"{skill.robot.default_task} {skill.task.speed} m/s"
        table.add_row(skill.id, task, _groups(skill), f"{skill.episode_steps} steps, {skill.seconds:.1f} s")
    return table


def _tasks() -> Table:
    from policykd.envs.tasks import get_task, task_names

    table = Table("task", "speed", "observation groups (features)", "success", "description")
    for name in task_names():
        task = get_task(name)
        skill = _example(name)
        low, high = task.goal(skill.seconds)
        ends = f"ends beyond {low:.1f} m" if math.isfinite(low) else f"ends beyond {high:.1f} m"
        about = (type(task).__doc__ or "").partition("\n")[0]
        table.add_row(f"+{name}", f"{task.speed} m/s", _groups(skill), ends, about)
    return table


def _example(task: str) -> Skill:
    """Return a skill with a task: of the robot that it is the default of, or of the first robot that it fits."""
    from policykd.envs.robots import get_robot, robot_names
    from policykd.envs.skills import get_skill
    from policykd.envs.tasks import get_task

    robots = [get_robot(name) for name in ("biped", "quadruped", *robot_names())]
    own = [robot for robot in robots if robot.default_task == task]
    robot = (own + [robot for robot in robots if get_task(task).fits(robot)])[0]
    return get_skill(f"{robot.name}/flat+{task}")


def _suites() -> Table:
    from policykd.envs.suites import get_suite, suite_names

    table = Table("suite", "skills", "observation groups (features)")
    for name in suite_names():
        skills = get_suite(name)
        table.add_row(name, " ".join(skill.id for skill in skills), _groups(skills[0]))
    return table


def _groups(skill: Skill) -> str:
    return ", ".join(f"{name} ({size})" for name, size in skill.group_sizes.items())
