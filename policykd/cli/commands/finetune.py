"""``policykd finetune``: reinforcement learning that starts from a student and loses nothing.

Options and printing only; the work is in ``policykd.finetune``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console
from rich.table import Table

from policykd.cli.options import Resume, Set, Threads, split_expert
from policykd.cli.output import Bars, say
from policykd.cli.overrides import from_options, with_overrides
from policykd.errors import ConfigError
from policykd.finetune.config import FinetuneConfig

if TYPE_CHECKING:
    from policykd.agents.training.algorithms.ppo import PpoConfig
    from policykd.envs.skills import Skill
    from policykd.finetune import FinetuneResult
    from policykd.merge.teachers import Teacher

_FINETUNE = FinetuneConfig()

_WITHOUT_CRITIC = 300_000
"""Warm-up for a critic that begins with random weights, environment steps, as in benchmarks/students.py."""


@dataclass(frozen=True)
class Finetune:
    """Improve a policy on some skills by reinforcement learning; no skill gets worse beyond a bound."""

    student: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    skills: tuple[str, ...] = ()
    """Skills to improve; they may be new to the policy."""
    rehearse: tuple[str, ...] | None = None
    """Old skills to simulate as well; default all others of the policy. Without names, none."""
    data: tuple[Path, ...] = ()
    """Labeled datasets of old skills that cannot be simulated."""
    out: Path = Path("finetuned")
    """Folder of the run; the policy is <out>/policy."""
    steps: int = _FINETUNE.steps
    """Budget, environment steps."""
    bound: float = _FINETUNE.bound
    """Largest accepted loss on any skill, of success and of the reward as a share of the start's (0 to 1)."""
    teachers: tuple[str, ...] = ()
    """Experts of some of the skills to listen to (--guidance); POLICY@SKILL,SKILL uses one on these skills only."""
    guidance: Literal["kickstarting", "proximal", "value_gated", "entropy_regularized", "reverse_kl"] | None = None
    """How to listen to teachers: their divergence as a loss that falls to 0 (kickstarting), weighted by PPO's ratio
    (proximal), where their value is higher (value_gated), or, without the environment's reward, as the gradient of
    whole episodes (entropy_regularized, reverse_kl)."""
    privileged: tuple[str, ...] = _FINETUNE.privileged
    """Observation groups that the critic of the run reads although the policy does not, such as scan."""
    leash: float = _FINETUNE.leash
    """Weight of the divergence from the start's actions on the skills to improve; it falls to 0 at half-time."""
    noise: float = _FINETUNE.noise
    """Exploration noise at the start, units of the action (-1 to 1)."""
    seed: int = _FINETUNE.seed
    """Seed of tracks and exploration."""
    threads: Threads = None
    resume: Resume = False
    set: Set = ()
    """Any other setting, for example rehearsal=2 or ppo.envs=128 (a field of policykd.finetune.FinetuneConfig)."""

    def run(self, console: Console) -> None:
        """Fine-tune and print the figures of every skill before and after.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.agents.files.policy_file import load_policy
        from policykd.agents.training.defaults import default_config
        from policykd.envs.skill_records import read_skill, recorded_skill
        from policykd.finetune import finetune

        if not self.skills:
            raise ConfigError("no skill to improve was given; name at least one with --skills")
        student = load_policy(self.student)
        groups, records = list(student.policy.groups), student.manifest.skill_records
        names = {name: recorded_skill(name, records, groups) for name in student.manifest.skills}
        targets = [names.get(name) or read_skill(name, groups, [records]) for name in self.skills]
        rehearsed = self._rehearsed(names, [skill.id for skill in targets])
        own = default_config(targets[0].robot).ppo
        config = from_options(FinetuneConfig, self, ppo=slow_ppo(own), guidance=self.guidance or "")
        config = with_overrides(config, self.set)
        teachers = _teachers(self.teachers, [skill.id for skill in (*targets, *rehearsed)])
        if student.manifest.config.get("critic") == "none" and config.warm_up_steps < _WITHOUT_CRITIC:
            say(console, f"note: {self.student} was merged without a critic, which has to learn before the actor may "
                f"move; consider --set warm_up_steps={_WITHOUT_CRITIC}")  # fmt: skip
        result = finetune(
            student, targets, self.out, config, rehearsed=rehearsed, recorded=self.data, teachers=teachers,
            resume=self.resume, progress=Bars(console),
        )  # fmt: skip
        judged = {skill.id for skill in (*targets, *rehearsed) if skill.task.bounded}  # others may have no success
        _print(result, [skill.id for skill in targets], judged, console)

    def _rehearsed(self, names: dict[str, Skill], targets: Sequence[str]) -> list[Skill]:
        if self.rehearse is None:
            recorded = _recorded_skills(self.data)
            return [skill for name, skill in names.items() if name not in targets and name not in recorded]
        from policykd.envs.skill_records import read_skill

        groups = list(next(iter(names.values())).groups)
        return [names.get(name) or read_skill(name, groups) for name in self.rehearse]


def _teachers(texts: Sequence[str], simulated: Sequence[str]) -> list[Teacher]:
    """Return the teachers of the simulated skills; a policy that is not restricted teaches those that it knows."""
    from policykd.agents.files.policy_file import load_policy
    from policykd.merge.teachers import teachers_from

    if not texts:
        return []
    named = [split_expert(text) for text in texts]
    loaded = [(str(path), load_policy(path)) for path, _ in named]
    only = {str(path): skills for path, skills in named if skills is not None}
    for source, policy in loaded:
        shared = [skill for skill in policy.manifest.skills if skill in simulated]
        if source not in only and shared:
            only[source] = shared
    return teachers_from(loaded, only)


def _recorded_skills(folders: Sequence[Path]) -> set[str]:
    from policykd.merge.data.folder import LabeledData

    return {skill.id for folder in folders for skill in LabeledData.open(folder).manifest.skills}


def slow_ppo(own: PpoConfig) -> PpoConfig:
    """Return a robot's settings of PPO with the slow start and the small updates of fine-tuning."""
    slow = _FINETUNE.ppo
    return replace(
        own, learning_rate=slow.learning_rate, learning_rate_range=slow.learning_rate_range, target_kl=slow.target_kl,
        final_target_kl=slow.final_target_kl, final_std=slow.final_std,
    )  # fmt: skip


def _print(result: FinetuneResult, targets: Sequence[str], judged: Collection[str], console: Console) -> None:
    table = Table("skill", "success before", "after", "reward per step before", "after")
    for skill, old in result.before.items():
        new, mark = result.after[skill], " *" if skill in targets else ""
        success = [f"{figures['success']:.3f}" if skill in judged else "" for figures in (old, new)]
        table.add_row(f"{skill}{mark}", *success, *(f"{figures['reward_per_step']:.4f}" for figures in (old, new)))
    console.print(table)
    ending = "" if result.improved else "nothing within the bound was better than the start, which is returned; "
    spent = f"{result.steps:,} steps, {result.rollbacks} rollbacks, {result.seconds:.0f} s"
    say(console, f"{ending}{spent} -> {result.policy_path}")
