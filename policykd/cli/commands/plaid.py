"""``policykd plaid``: train one student on skill after skill with PLAID or one of its baselines.

Options and printing only; the work is in ``policykd.curriculum``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from policykd.cli.options import Cores, Curriculum, PresetName, RecipeFile, Resume, Set
from policykd.cli.output import Bars, say
from policykd.cli.overrides import with_overrides

if TYPE_CHECKING:
    from policykd.curriculum import CurriculumResult, Recipe


@dataclass(frozen=True)
class Plaid:
    """Train on skill after skill and merge each into one student (PLAID), or run one of its baselines."""

    preset: PresetName = "quick"
    """Recipe: quick takes minutes, standard has the paper's five terrains."""
    recipe: RecipeFile = None
    curriculum: Curriculum = None
    out: Path = Path("results/plaid")
    """Results folder; open its index.html."""
    seed: int = 0
    """Random seed; evaluation tracks do not depend on it."""
    threads: Cores = None
    device: str | None = None
    """Device of training, merging and evaluation: cpu, cuda or auto; default the recipe's."""
    resume: Resume = False
    video: bool = True
    """Film the final policy on every skill."""
    set: Set = ()
    """Any other setting, for example merge.rounds=10 (a field of policykd.curriculum.Recipe)."""

    def run(self, console: Console) -> None:
        """Run the curriculum, write its page and print the matrix.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.curriculum import run_curriculum
        from policykd.report.pages.curriculum import write_curriculum_page
        from policykd.report.video import film_curriculum

        result = run_curriculum(
            self._recipe(),
            self.out,
            seed=self.seed,
            threads=self.threads,
            resume=self.resume,
            progress=Bars(console),
        )
        if self.video:
            film_curriculum(self.out)
        page = write_curriculum_page(self.out)
        console.print(_matrix_table(result))
        say(console, _summary_line(result))
        say(console, f"-> {self.out / 'policy'}; open {page}")

    def _recipe(self) -> Recipe:
        """Return the recipe that the options ask for."""
        from policykd.curriculum import load_recipe, preset

        recipe = load_recipe(self.recipe) if self.recipe else preset(self.preset)
        if self.curriculum:
            recipe = replace(recipe, curriculum=self.curriculum)
        if self.device:
            recipe = recipe.on_device(self.device)
        return with_overrides(recipe, self.set)


def _matrix_table(result: CurriculumResult) -> Table:
    """Return the retention matrix, with forgetting and success of the final policy per skill."""
    matrix = result.matrix
    title = "score of the policy over that of each skill's expert, after every stage"
    table = Table(title=title, title_justify="left")
    table.add_column("after", no_wrap=True)
    for skill in matrix.skills:
        table.add_column(skill, justify="right", no_wrap=True)
    for stage, values in zip(matrix.stages, matrix.normalized, strict=True):
        table.add_row(stage, *(f"{value:.3f}" for value in values))
    table.add_section()
    forgotten = [f"{f:+.3f}" if old else "-" for f, old in zip(matrix.forgetting, matrix.old, strict=True)]
    table.add_row("forgotten", *forgotten)
    table.add_row("success", *(f"{value:.2f}" for value in matrix.success[-1]))
    for skill, figures in result.zero_shot.items():
        table.caption = f"{table.caption or 'never trained on:'} {skill} success {figures['success']:.2f} "
    return table


def _summary_line(result: CurriculumResult) -> str:
    """Return retention, forgetting and cost in one line."""
    matrix = result.matrix
    forgotten = matrix.mean_absolute_forgetting
    return (
        f"retention mean {matrix.retention.mean():.3f}, least {matrix.retention.min():.3f}; "
        f"mean absolute forgetting {'-' if forgotten is None else f'{forgotten:.3f}'}; "
        f"success at least {min(matrix.success[-1]):.2f}; "
        f"{result.steps / 1e6:.2f} M environment steps, {result.seconds:.0f} s, {result.cpu_seconds:.0f} CPU s"
    )
