"""What the ``kd`` commands do. Apart from ``work``, since supervised distillation needs no simulation."""

from __future__ import annotations

from functools import singledispatch

from rich.console import Console

from policykd.cli.commands import KdGroup, KdList, KdShow
from policykd.cli.kd_bench import KdBench, run_bench
from policykd.cli.kd_list import print_losses, print_systems
from policykd.cli.kd_run import KdRun, run_systems
from policykd.cli.kd_show import print_loss


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
    from policykd.kd.registry import LOSSES

    print_loss(LOSSES.get(command.name), console)


@run.register
def _(command: KdList, console: Console) -> None:
    print_losses(command.family, console)
    if command.family is None:
        print_systems(console)


@run.register
def _(command: KdRun, console: Console) -> None:
    run_systems(command, console)


@run.register
def _(command: KdBench, console: Console) -> None:
    run_bench(command, console)
