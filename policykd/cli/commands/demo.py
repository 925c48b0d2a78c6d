"""``policykd demo``: the whole pipeline from nothing to a student and a results page.

Options and printing only; the work is in ``policykd.demo``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from policykd.cli.options import Cores
from policykd.cli.output import Bars, say
from policykd.errors import ConfigError


@dataclass(frozen=True)
class Demo:
    """Train three experts, merge them, evaluate and film the student; an interrupted demo is continued."""

    out: Path = Path("results/demo")
    """Results folder; open its index.html."""
    skills: tuple[str, ...] = ("biped/flat", "biped/steps", "biped/gaps")
    """Skills of the experts."""
    episodes: int = 64
    """Evaluation episodes per policy and skill."""
    seed: int = 0
    """Random seed."""
    threads: Cores = None
    video: bool = True
    """Film the student on every skill."""

    def run(self, console: Console) -> None:
        """Run the demo and print its evaluation.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.demo import run_demo
        from policykd.envs.skill_records import read_skill
        from policykd.evaluation import evaluation_table

        if len(self.skills) < 2:
            raise ConfigError("the demo merges experts; give at least two, for example --skills biped/flat biped/gaps")
        outcome = run_demo(
            [read_skill(name) for name in self.skills],
            self.out,
            episodes=self.episodes,
            seed=self.seed,
            threads=self.threads,
            video=self.video,
            progress=Bars(console),
        )
        console.print(evaluation_table(outcome.evaluation))
        say(console, f"{outcome.seconds:.0f} s in all; open {outcome.page}")
