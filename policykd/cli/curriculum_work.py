"""What the commands about curricula do: find the inputs, call the library, print the outcome."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

from rich.console import Console
from rich.table import Table

from policykd.cli.overrides import with_overrides
from policykd.cli.plaid import Plaid
from policykd.cli.progress import Bars
from policykd.curriculum import CurriculumResult, Recipe, load_recipe, preset, run_curriculum
from policykd.report.curriculum_page import write_curriculum_page


@singledispatch
def run(command: object, console: Console) -> None:
    """Run one command.

    Args:
        command: the options of a command about curricula.
        console: where the outcome is printed.

    Raises:
        PolicykdError: for bad input.
    """
    raise TypeError(f"no such command: {command!r}")


@run.register
def _(command: Plaid, console: Console) -> None:
    result = run_curriculum(
        chosen_recipe(command),
        command.out,
        seed=command.seed,
        threads=command.threads,
        resume=command.resume,
        progress=Bars(console),
    )
    page = write_curriculum_page(command.out, video=command.video)
    console.print(matrix_table(result))
    console.print(summary_line(result), highlight=False, soft_wrap=True)
    console.print(f"open {page}", highlight=False, soft_wrap=True)


def chosen_recipe(command: Plaid) -> Recipe:
    """The recipe that the options ask for."""
    recipe = load_recipe(command.recipe) if command.recipe else preset(command.preset)
    if command.curriculum:
        recipe = replace(recipe, curriculum=command.curriculum)
    return with_overrides(recipe, command.set)


def matrix_table(result: CurriculumResult) -> Table:
    """The matrix, and per skill what was kept, forgotten, and how often the final policy succeeds."""
    matrix = result.matrix
    table = Table(title="reward per step over that of each skill's expert, after every stage", title_justify="left")
    table.add_column("after", no_wrap=True)
    for skill in matrix.skills:
        table.add_column(skill, justify="right", no_wrap=True)
    for stage, values in zip(matrix.stages, matrix.normalised, strict=True):
        table.add_row(stage, *(f"{value:.3f}" for value in values))
    table.add_section()
    forgotten = [f"{f:+.3f}" if old else "-" for f, old in zip(matrix.forgetting, matrix.old, strict=True)]
    table.add_row("forgotten", *forgotten)
    table.add_row("success", *(f"{value:.2f}" for value in matrix.success[-1]))
    for skill, figures in result.zero_shot.items():
        table.caption = f"{table.caption or 'never trained on:'} {skill} success {figures['success']:.2f} "
    return table


def summary_line(result: CurriculumResult) -> str:
    """Retention, forgetting and cost in one line."""
    matrix = result.matrix
    forgotten = matrix.mean_absolute_forgetting
    return (
        f"retention mean {matrix.retention.mean():.3f}, least {matrix.retention.min():.3f}; "
        f"mean absolute forgetting {'-' if forgotten is None else f'{forgotten:.3f}'}; "
        f"success at least {min(matrix.success[-1]):.2f}; "
        f"{result.steps / 1e6:.2f} M environment steps, {result.seconds:.0f} s, {result.cpu_seconds:.0f} CPU s"
    )
