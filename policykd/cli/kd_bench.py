"""``policykd kd bench``: compare the registered losses on one task, print the table, draw plots and page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console

from policykd.errors import ConfigError

if TYPE_CHECKING:
    from policykd.kd.benchmark import BenchConfig, BenchResult


@dataclass(frozen=True)
class KdBench:
    """Compare losses on one task: paired seeds, equal tuning, accuracy, fidelity, calibration, intervals, a page."""

    task: str = "digits"
    """Task: digits (also -few-label, -noisy-label, -missing-class), textures, timeseries, or data on disk."""
    methods: str = "all"
    """Losses with commas between them, such as ce,kd,dkd; `policykd kd list` names them. all: every runnable one."""
    seeds: int = 10
    """Number of seeds, counted from 0; at least 2, intervals say little below 5."""
    tune: int = 1
    """Candidate settings per method and seed, chosen on validation data, 1 to 15; 1 is the default setting alone."""
    baseline: str = "ce"
    """Loss that the others are compared with."""
    epochs: int | None = None
    """Epochs of every student; default the task's (24 on digits, 16 on textures)."""
    out: Path | None = None
    """Results folder; default results/kd_bench/<task>. Open its index.html."""
    resume: bool = False
    """Keep finished cells, also when more seeds or methods are asked for."""
    workers: int | None = None
    """Processes side by side; default one per usable core."""
    redraw: Path | None = None
    """Run nothing: draw table, plots and page of this results folder again."""
    docs: Path | None = None
    """Also write the tables into this Markdown file."""
    task_option: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Options of the task, for example root=/data/cifar-10 or similarity=0.8."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=VALUE")] = ()
    """Any other setting, for example train.optimizer.lr=0.05 or student=resnet8:4,4,8,16."""


def run_bench(command: KdBench, console: Console) -> None:
    """Run or redraw a benchmark and print its table.

    Raises:
        PolicykdError: bad input.
    """
    from policykd.kd.benchmark import BenchResult, markdown
    from policykd.kd.benchmark.table import remarks, rich_table
    from policykd.report.pages.benchmark import write_bench_page
    from policykd.storage import write_text

    if command.redraw is None:
        folder = command.out or Path("results/kd_bench") / command.task
        result = _run(command, folder, console)
    else:
        folder, result = command.redraw, BenchResult.load(command.redraw)
    console.print(rich_table(result))
    for remark in remarks(result):
        console.print(f"note: {remark}", highlight=False)
    console.print(f"-> {write_bench_page(folder)}", highlight=False, soft_wrap=True)
    if command.docs is not None:
        command.docs.parent.mkdir(parents=True, exist_ok=True)
        write_text(command.docs, markdown(result))
        console.print(f"-> {command.docs}", highlight=False, soft_wrap=True)


def _run(command: KdBench, folder: Path, console: Console) -> BenchResult:
    from policykd.cli.progress import Bars
    from policykd.executor import Inline, Processes
    from policykd.kd.benchmark import run_benchmark
    from policykd.threads import cores_for

    workers = cores_for(command.workers, "workers")
    executor = Inline() if workers == 1 else Processes(workers)
    return run_benchmark(_config(command), folder, resume=command.resume, executor=executor, progress=Bars(console))


def _config(command: KdBench) -> BenchConfig:
    """The configuration that the command asks for."""
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
    """Task options as values; those that look like numbers are numbers."""
    from policykd.cli.overrides import read_value

    options = {}
    for option in given:
        name, equals, value = option.partition("=")
        if not equals:
            raise ConfigError(f"--task-option {option}: write it as name=value, for example similarity=0.8")
        options[name.strip()] = read_value(value, f"--task-option {option}")
    return options
