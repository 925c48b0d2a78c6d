"""``policykd add-skill``: teach a student one more skill while it keeps the old ones.

Options and printing only; the work is in ``policykd.curriculum.add_skill``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from rich.console import Console

from policykd.cli.options import Cores, Resume, Set
from policykd.cli.output import Bars, say
from policykd.cli.overrides import with_overrides


@dataclass(frozen=True)
class AddSkill:
    """Add one skill to a student: train an expert that starts from it, then merge both into a new student."""

    student: tyro.conf.Positional[Path]
    """Policy file of the student, or folder of its run."""
    skill: tyro.conf.Positional[str]
    """Skill to add, for example biped/walls@0.5."""
    out: Path = Path("student-grown")
    """Output folder; the new student is <out>/policy."""
    steps: int = 1_500_000
    """Training budget, environment steps."""
    seed: int = 0
    """Random seed; evaluation tracks do not depend on it."""
    threads: Cores = None
    resume: Resume = False
    train: Set = ()
    """Training setting, for example start_level=0.3 (a field of policykd.agents.training.TrainConfig)."""
    merge: Set = ()
    """Merge setting, for example rounds=10 (a field of policykd.merge.MergeConfig)."""

    def run(self, console: Console) -> None:
        """Add the skill and print retention and cost.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.agents.training.defaults import GYMNASIUM
        from policykd.curriculum.add_skill import ADD_MERGE, ADD_TRAIN, NEW_RETENTION, OLD_RETENTION, add_skill
        from policykd.report.pages.run import write_page

        usual = GYMNASIUM if self.skill.startswith("gym:") else ADD_TRAIN
        result = add_skill(
            self.student,
            self.skill,
            self.out,
            train=with_overrides(replace(usual, steps=self.steps), self.train, "--train"),
            merge=with_overrides(ADD_MERGE, self.merge, "--merge"),
            seed=self.seed,
            threads=self.threads,
            resume=self.resume,
            progress=Bars(console),
        )
        for skill, kept in zip(result.matrix.skills, result.matrix.retention, strict=True):
            console.print(f"{skill}: retention {kept:.3f}", highlight=False)
        kept_both = f"{OLD_RETENTION:g} of every old skill and {NEW_RETENTION:g} of the new one"
        if result.price_steps is None:
            console.print(f"no validation reached {kept_both}; a larger --steps or --merge rounds=N may help")
        else:
            cost = f"{result.price_steps:,} environment steps, {result.price_seconds:.0f} s"
            console.print(f"{kept_both} were reached after {cost}", highlight=False)
        say(console, f"-> {result.policy_path}; open {write_page(self.out)}")
