"""What the commands about curricula do: find the inputs, call the library, print the outcome."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

import numpy as np
from rich.console import Console
from rich.table import Table

from policykd.cli.add_skill import AddSkill
from policykd.cli.compare import Compare
from policykd.cli.overrides import with_overrides
from policykd.cli.plaid import Plaid
from policykd.cli.progress import Bars
from policykd.curriculum import CurriculumResult, Recipe, load_recipe, preset, run_curriculum
from policykd.curriculum.add_skill import ADD_MERGE, ADD_TRAIN, NEW_RETENTION, OLD_RETENTION, add_skill
from policykd.curriculum.comparison import Comparison, run_comparison
from policykd.curriculum.presets import for_suite
from policykd.report.pages.comparison import write_comparison_page
from policykd.report.pages.curriculum import write_curriculum_page
from policykd.report.pages.run import write_page
from policykd.report.video import film_curriculum
from policykd.stats import Interval, format_interval


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
    if command.video:
        film_curriculum(command.out)
    page = write_curriculum_page(command.out)
    console.print(matrix_table(result))
    console.print(summary_line(result), highlight=False, soft_wrap=True)
    console.print(f"-> {command.out / 'policy'}; open {page}", highlight=False, soft_wrap=True)


@run.register
def _(command: Compare, console: Console) -> None:
    recipe = load_recipe(command.recipe) if command.recipe else preset(command.preset)
    if command.suite:
        recipe = for_suite(recipe, command.suite)

    def show(found: Comparison) -> None:
        page = write_comparison_page(command.out)
        if len(found.seeds) < command.seeds:
            console.print(f"{len(found.seeds)} of {command.seeds} seeds: open {page}", highlight=False, soft_wrap=True)

    comparison = run_comparison(
        with_overrides(recipe, command.set),
        command.out,
        curricula=command.curricula,
        seeds=command.seeds,
        threads=command.threads,
        resume=command.resume,
        progress=Bars(console),
        on_seed=show,
    )
    console.print(comparison_table(comparison))
    if comparison.warning:
        console.print(comparison.warning, style="bold", highlight=False)
    console.print(f"open {command.out / 'index.html'}", highlight=False, soft_wrap=True)


@run.register
def _(command: AddSkill, console: Console) -> None:
    train = with_overrides(replace(ADD_TRAIN, steps=command.steps), command.train)
    result = add_skill(
        command.student,
        command.skill,
        command.out,
        train=train,
        merge=with_overrides(ADD_MERGE, command.merge),
        seed=command.seed,
        threads=command.threads,
        resume=command.resume,
        progress=Bars(console),
    )
    for skill, kept in zip(result.matrix.skills, result.matrix.retention, strict=True):
        console.print(f"{skill}: retention {kept:.3f}", highlight=False)
    if result.price_steps is None:
        console.print(f"no validation kept {OLD_RETENTION:g} of every old skill and {NEW_RETENTION:g} of the new one")
    else:
        console.print(
            f"{OLD_RETENTION:g} of every old skill and {NEW_RETENTION:g} of the new one were kept after "
            f"{result.price_steps:,} environment steps, {result.price_seconds:.0f} s",
            highlight=False,
        )
    page = write_page(command.out)
    console.print(f"-> {result.policy_path}; open {page}", highlight=False, soft_wrap=True)


def comparison_table(comparison: Comparison) -> Table:
    """Scores with 95 % intervals per skill and over all, and the cost: one column for every curriculum."""
    names = comparison.curricula
    several = len(comparison.seeds) > 1
    seeds = f"{len(comparison.seeds)} seeds: interquartile mean (95 % interval)" if several else "1 seed"
    title = f"reward over the shared experts', {seeds}"
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


def chosen_recipe(command: Plaid) -> Recipe:
    """The recipe that the options ask for."""
    recipe = load_recipe(command.recipe) if command.recipe else preset(command.preset)
    if command.curriculum:
        recipe = replace(recipe, curriculum=command.curriculum)
    if command.device:
        recipe = recipe.on_device(command.device)
    return with_overrides(recipe, command.set)


def matrix_table(result: CurriculumResult) -> Table:
    """The matrix, and per skill what was kept, forgotten, and how often the final policy succeeds."""
    matrix = result.matrix
    table = Table(title="reward per step over that of each skill's expert, after every stage", title_justify="left")
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
