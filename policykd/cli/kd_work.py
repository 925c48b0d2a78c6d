"""What the ``kd`` commands do. Apart from ``work``, since supervised distillation needs no simulation."""

from __future__ import annotations

from functools import singledispatch

from rich.console import Console
from rich.table import Table

from policykd.cli.commands import KdGroup, KdList, KdShow
from policykd.cli.kd_bench import KdBench, run_bench
from policykd.cli.kd_run import KdRun, run_systems
from policykd.cli.kd_show import print_method


@singledispatch
def run(command: object, console: Console) -> None:
    """Run one command of the group ``kd``.

    Args:
        command: one of the group's commands in ``policykd.cli.commands``.
        console: where the outcome is printed.

    Raises:
        PolicykdError: for bad input.
    """
    raise TypeError(f"no such command: {command!r}")


@run.register
def _(command: KdGroup, console: Console) -> None:
    run(command.command, console)


@run.register
def _(command: KdShow, console: Console) -> None:
    from policykd.kd.registry import methods

    print_method(methods.get(command.name), console)


@run.register
def _(command: KdList, console: Console) -> None:
    from policykd.kd.registry import methods

    table = Table("name", "title", "family", "needs", "paper", "year")
    for method in methods.list(family=command.family):  # type: ignore[arg-type]
        needs = ", ".join(method.needs)
        table.add_row(method.name, method.title, method.family, needs, method.paper, str(method.year))
    console.print(table)


@run.register
def _(command: KdRun, console: Console) -> None:
    run_systems(command, console)


@run.register
def _(command: KdBench, console: Console) -> None:
    run_bench(command, console)
