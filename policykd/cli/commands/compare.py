"""``policykd compare``: compare PLAID and its baselines at equal environment steps over several seeds.

Options and printing only; the work is in ``policykd.curriculum.comparison``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from policykd.cli.options import Curricula, ExecutorName, PresetName, RecipeFile, Resume, Set
from policykd.cli.output import Bars, say, say_where
from policykd.cli.overrides import with_overrides
from policykd.curriculum.curricula import compared_curricula

if TYPE_CHECKING:
    from policykd.curriculum import Recipe
    from policykd.curriculum.comparison import Comparison
    from policykd.paper_tables import PaperTable
    from policykd.stats import Interval


@dataclass(frozen=True)
class Compare:
    """Compare PLAID with its baselines at equal environment steps over several seeds."""

    preset: PresetName = "standard"
    """Recipe shared by all curricula."""
    recipe: RecipeFile = None
    suite: str | None = None
    """Skills of this suite instead of the recipe's, such as terrains-hard or quadruped-gaits (policykd skills)."""
    curricula: Curricula = field(default_factory=compared_curricula)
    seeds: int = 5
    """Number of seeds; with fewer than 5, intervals are too narrow."""
    first_seed: int = 0
    """The first seed; others than 0 are for seeds that another machine runs (--join)."""
    join: tuple[Path, ...] = ()
    """Run nothing; join these comparison.json of one recipe, such as other seeds of another machine, in --out."""
    out: Path = Path("results/compare")
    """Results folder; index.html shows the results, comparison.json has the values of all finished seeds,
    comparison.csv and .tex the table."""
    threads: int | None = None
    """Parallel runs; default one per usable core."""
    executor: ExecutorName = "processes"
    """Where runs go: processes or inline on this machine, ray or ray:ADDRESS, slurm or slurm:PARTITION."""
    resume: Resume = False
    set: Set = ()
    """Any other setting, for example merge.rounds=10 (a field of policykd.curriculum.Recipe)."""

    def run(self, console: Console) -> None:
        """Run the comparison and print its table; the page is written after every seed.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.curriculum.comparison import COMPARISON
        from policykd.paper_tables import write_paper_tables

        comparison = self._joined() if self.join else self._run(console)
        console.print(_comparison_table(comparison))
        for path in write_paper_tables(self.out / COMPARISON, _paper_table(comparison)):
            say_where(console, path)
        if comparison.warning:
            console.print(comparison.warning, style="bold", highlight=False)
        say(console, f"open {self.out / 'index.html'}")

    def _joined(self) -> Comparison:
        """Join finished comparisons in the results folder, with a page."""
        from policykd.curriculum.comparison import COMPARISON, Comparison
        from policykd.curriculum.joining import join_comparisons
        from policykd.errors import OutputError
        from policykd.report.pages.comparison import write_comparison_page
        from policykd.storage import prepare_folder, write_json

        if (self.out / COMPARISON).exists():
            raise OutputError(f"{self.out} holds a comparison already; choose another --out")
        joined = join_comparisons([Comparison.load(path) for path in self.join])
        write_json(prepare_folder(self.out) / COMPARISON, joined.to_json())
        write_comparison_page(self.out)
        return joined

    def _run(self, console: Console) -> Comparison:
        """Run the comparison; the page is written after every seed."""
        from policykd.curriculum.comparison import run_comparison
        from policykd.executors import make_executor
        from policykd.report.pages.comparison import write_comparison_page

        def show(found: Comparison) -> None:
            page = write_comparison_page(self.out)
            if len(found.seeds) < self.seeds:
                say(console, f"{len(found.seeds)} of {self.seeds} seeds: open {page}")

        return run_comparison(
            self._recipe(),
            self.out,
            curricula=self.curricula,
            seeds=self.seeds,
            first_seed=self.first_seed,
            threads=self.threads,
            executor=None if self.executor == "processes" else make_executor(self.executor, self.threads, self.out),
            resume=self.resume,
            progress=Bars(console),
            on_seed=show,
        )

    def _recipe(self) -> Recipe:
        """Return the recipe that the options ask for."""
        from policykd.curriculum import load_recipe, preset
        from policykd.curriculum.presets import for_suite

        recipe = load_recipe(self.recipe) if self.recipe else preset(self.preset)
        if self.suite:
            recipe = for_suite(recipe, self.suite)
        return with_overrides(recipe, self.set)


def _comparison_table(comparison: Comparison) -> Table:
    """Return the table of scores with 95 % intervals per skill and over all skills, and cost, per curriculum."""
    from policykd.stats import format_interval

    names = comparison.curricula
    several = len(comparison.seeds) > 1
    seeds = f"{len(comparison.seeds)} seeds: interquartile mean (95 % interval)" if several else "1 seed"
    title = f"reward as a share of the shared experts', {seeds}"
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    found = [comparison.intervals(name) for name in names]
    rows: dict[str, list[Interval | None]] = {label: [one[label] for one in found] for label in found[0]}
    rows["forgotten"] = [comparison.forgetting(name) for name in names]
    for label, intervals in rows.items():
        table.add_row(label, *(format_interval(interval, 3) for interval in intervals))
    table.add_row("M steps", *(f"{np.mean([r.steps for r in comparison.of(name)]) / 1e6:.2f}" for name in names))
    table.add_row("CPU s", *(f"{np.mean([r.cpu_seconds for r in comparison.of(name)]):.0f}" for name in names))
    return table


def _paper_table(comparison: Comparison) -> PaperTable:
    """Return the same figures for LaTeX and CSV: a row per curriculum and skill."""
    from policykd.paper_tables import PaperTable

    rows = []
    for name in comparison.curricula:
        runs = comparison.of(name)
        cost = (float(np.mean([run.steps for run in runs])) / 1e6, float(np.mean([run.cpu_seconds for run in runs])))
        for label, interval in {**comparison.intervals(name), "forgotten": comparison.forgetting(name)}.items():
            rows.append((name, label, interval, *cost))
    head = ("curriculum", "skill", "share of the experts' reward", "M steps", "CPU s")
    return PaperTable(head, tuple(rows), (0, 0, 3, 2, 0))
