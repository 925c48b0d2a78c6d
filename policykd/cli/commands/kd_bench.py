"""``policykd kd bench``: compare the registered losses on one task; print a table, draw plots and a page.

Options and printing only; the work is in ``policykd.kd.benchmark``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console

from policykd.cli.options import ExecutorName, Set, Workers
from policykd.cli.output import say_where
from policykd.errors import ConfigError

if TYPE_CHECKING:
    from policykd.kd.benchmark import BenchConfig, BenchResult


@dataclass(frozen=True)
class KdBench:
    """Compare losses on one task with paired seeds and equal tuning: accuracy, fidelity, calibration, intervals."""

    task: str = "digits"
    """Task: digits (also -few-label, -noisy-label, -missing-class), textures, timeseries, or data on disk."""
    methods: str = "all"
    """Losses separated by commas, such as ce,kd,dkd or my_package.my_loss:INFO, or all for every runnable one;
    `policykd kd list` lists them."""
    seeds: int = 10
    """Number of seeds, counted from 0; at least 2. With fewer than 5, intervals are too narrow."""
    tune: int = 1
    """Candidate settings per loss and seed, selected on validation data, 1 to 15; 1 is the default setting alone."""
    baseline: str = "ce"
    """Loss that the others are compared with."""
    epochs: int | None = None
    """Epochs of every student; default the task's (24 on digits, 16 on textures)."""
    out: Path | None = None
    """Results folder; default results/kd_bench/<task>. Open its index.html."""
    resume: bool = False
    """Continue a run: finished cells are kept, also when seeds or losses are added."""
    workers: Workers = None
    executor: ExecutorName = "processes"
    """Where cells run: processes or inline on this machine, ray or ray:ADDRESS, slurm or slurm:PARTITION."""
    redraw: Path | None = None
    """Run nothing; redraw table, plots and page of this results folder."""
    docs: Path | None = None
    """Also write the tables into this Markdown file."""
    task_option: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Option of the task, for example root=/data/cifar-10 or similarity=0.8."""
    set: Set = ()
    """Any other setting, for example train.optimizer.lr=0.05 or student=resnet8:4,4,8,16."""

    def run(self, console: Console) -> None:
        """Run or redraw a benchmark and print its table.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.kd.benchmark import BenchResult, markdown
        from policykd.kd.benchmark.table import paper_table, remarks, rich_table
        from policykd.paper_tables import write_paper_tables
        from policykd.report.pages.benchmark import write_bench_page
        from policykd.storage import write_text

        if self.redraw is None:
            folder = self.out or Path("results/kd_bench") / self.task
            result = _run(self, folder, console)
        else:
            folder, result = self.redraw, BenchResult.load(self.redraw)
        console.print(rich_table(result))
        for remark in remarks(result):
            console.print(f"note: {remark}", highlight=False)
        say_where(console, write_bench_page(folder))
        for path in write_paper_tables(folder / "result.json", paper_table(result)):
            say_where(console, path)
        if self.docs is not None:
            self.docs.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.docs, markdown(result))
            say_where(console, self.docs)


def _run(command: KdBench, folder: Path, console: Console) -> BenchResult:
    from policykd.cli.output import Bars
    from policykd.executors import make_executor
    from policykd.kd.benchmark import run_benchmark

    executor = make_executor(command.executor, command.workers, folder)
    return run_benchmark(_config(command), folder, resume=command.resume, executor=executor, progress=Bars(console))


def _config(command: KdBench) -> BenchConfig:
    """Return the configuration that the options ask for."""
    from policykd.cli.overrides import with_overrides
    from policykd.kd.benchmark import bench_config

    config = bench_config(
        command.task,
        [name.strip() for name in command.methods.split(",") if name.strip()],
        seeds=command.seeds,
        tune=command.tune,
        baseline=command.baseline,
        epochs=command.epochs,
        task_options=_options(command.task_option),
    )
    try:
        return with_overrides(config, command.set)
    except ValueError as error:
        raise ConfigError(f"--set {' '.join(command.set)}: {error}") from None


def _options(given: Sequence[str]) -> dict[str, Any]:
    """Return task options by name, with numbers converted."""
    from policykd.cli.overrides import read_value

    options = {}
    for option in given:
        name, equals, value = option.partition("=")
        if not equals:
            raise ConfigError(f"--task-option {option}: write it as name=value, for example similarity=0.8")
        options[name.strip()] = read_value(value, f"--task-option {option}")
    return options
