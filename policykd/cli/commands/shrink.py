"""``policykd shrink``: smaller students of a student, what each keeps and how long each takes to act.

Options and printing only; the work is in ``policykd.shrink``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from policykd.cli.options import Resume, Set, Threads
from policykd.cli.output import Bars, say
from policykd.cli.overrides import with_overrides


@dataclass(frozen=True)
class Shrink:
    """Distill a student into smaller ones, and choose the best that acts within a budget of time."""

    student: tyro.conf.Positional[Path]
    """Policy file of the student, or folder of its run."""
    budget_us: float
    """Longest time of one action on this machine, us: the exported C header on one core."""
    out: Path = Path("shrunk")
    """Output folder; the chosen student is <out>/policy, the table <out>/shrink.json, the plot <out>/shrink.svg."""
    factors: tuple[float, ...] = (0.5, 0.25, 0.125, 0.0625)
    """Widths of the smaller students over those of the student."""
    episodes: int = 64
    """Tracks per skill on which all sizes are compared."""
    seed: int = 0
    """Seed of the merges and of the tracks."""
    threads: Threads = None
    resume: Resume = False
    set: Set = ()
    """Merge setting, for example rounds=12 (a field of policykd.merge.MergeConfig)."""

    def run(self, console: Console) -> None:
        """Distill, compare, save and print a table.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.report.plots.shrink import shrink_plot
        from policykd.report.plots.style import save_figure
        from policykd.shrink import SHRINK_MERGE, shrink
        from policykd.storage import read_json

        config = with_overrides(replace(SHRINK_MERGE, seed=self.seed, threads=self.threads), self.set)
        result = shrink(
            self.student, self.out, self.budget_us, config, factors=self.factors, episodes=self.episodes,
            resume=self.resume, progress=Bars(console),
        )  # fmt: skip
        sizes = read_json(self.out / "shrink.json")["sizes"]
        save_figure(shrink_plot(sizes, self.budget_us), self.out / "shrink.svg")
        skills = list(result.sizes[0].retention)
        table = Table("size", "hidden", "parameters", "us", *skills, title="retention, over the student's reward")
        for size in result.sizes:
            star = " *" if size.factor == result.chosen else ""
            kept = [f"{size.retention[s][0]:.3f}" if size.retention else "over budget" for s in skills]
            hidden = "x".join(map(str, size.hidden))
            table.add_row(f"x{size.factor:g}{star}", hidden, f"{size.parameters:,}", f"{size.microseconds:.1f}", *kept)
        console.print(table)
        say(console, f"-> {result.policy_path}")
