"""``policykd specialize``: fork specialists from a student, train each, and merge again until nothing gains.

Options and printing only; the work is in ``policykd.curriculum.specialize``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import tyro
from rich.console import Console

from policykd.cli.options import Cores, Resume, Set
from policykd.cli.output import Bars, say
from policykd.cli.overrides import with_overrides


@dataclass(frozen=True)
class Specialize:
    """Fork a specialist per skill from a student, fine-tune each on its skill, merge, repeat until nothing gains."""

    student: tyro.conf.Positional[Path]
    """Policy file of the student, or folder of its run."""
    out: Path = Path("student-specialized")
    """Output folder; the new student is <out>/policy."""
    cycles: int = 3
    """Largest number of cycles."""
    gain: float = 0.01
    """Smallest rise of reward per step that counts, as a share: 0.01 is 1 percent."""
    bound: float = 0.01
    """Largest fall of reward per step of any skill, as a share, at which a merged student is accepted."""
    steps: int = 300_000
    """Training budget of a specialist in one cycle, environment steps."""
    seed: int = 0
    """Random seed; evaluation tracks do not depend on it."""
    threads: Cores = None
    resume: Resume = False
    finetune: Set = ()
    """Fine-tuning setting, for example noise=0.05 (a field of policykd.finetune.FinetuneConfig)."""
    merge: Set = ()
    """Merge setting, for example rounds=10 (a field of policykd.merge.MergeConfig)."""

    def run(self, console: Console) -> None:
        """Run the cycles and print their gains.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.curriculum.specialize import SPECIALIZE_FINETUNE, SPECIALIZE_MERGE, specialize
        from policykd.stats import format_interval

        result = specialize(
            self.student,
            self.out,
            cycles=self.cycles,
            gain=self.gain,
            bound=self.bound,
            finetune=with_overrides(replace(SPECIALIZE_FINETUNE, steps=self.steps), self.finetune, "--finetune"),
            merge=with_overrides(SPECIALIZE_MERGE, self.merge, "--merge"),
            seed=self.seed,
            threads=self.threads,
            resume=self.resume,
            progress=Bars(console),
        )
        for number, cycle in enumerate(result.cycles, start=1):
            for name, gains in (("specialists", cycle.specialists), ("student", cycle.student)):
                if gains:
                    shown = ", ".join(f"{skill} {value:+.1%}" for skill, value in gains.items())
                    say(console, f"cycle {number}, {name}: {shown}")
            say(console, f"cycle {number}: {'accepted' if cycle.accepted else 'not accepted, the student stays'}")
        if result.confirmed:
            percent = partial(
                format_interval, style="{estimate} ({low} to {high})", signed=True, scale=100.0, always=True
            )
            shown = ", ".join(f"{skill} {percent(value, 1)}" for skill, value in result.confirmed.items())
            say(console, f"reward per step on new tracks, change in percent: {shown}")
        say(console, f"{result.steps:,} environment steps -> {result.policy_path}")
