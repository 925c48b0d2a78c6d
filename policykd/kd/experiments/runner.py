"""Running an experiment: cells by seed, each saved whole, then the result.

The folder of a run::

    config.json          system and resolved configuration; a resumed run must ask for the same
    cells/seed-3.json    what every arm of seed 3 reached; a cell that is there is never run again
    result.json          every value, the effects, the verdicts; written again whenever the run ends

Which seeds run is not part of the configuration: ``--resume`` with more seeds runs only those that are missing. A
pilot and the run that it plans have seeds of their own, see ``first``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policykd.errors import ConfigError, OutputError, check_range
from policykd.executor import Executor
from policykd.kd.experiments.cells import run_missing
from policykd.kd.experiments.experiment import Experiment
from policykd.kd.experiments.results import Result
from policykd.plain import as_plain
from policykd.progress import Progress
from policykd.runs import RunFolder
from policykd.seeding import integer_seed
from policykd.storage import read_json, write_json
from policykd.threads import torch_threads
from policykd.torch_seeding import seeded_torch


@dataclass(frozen=True)
class _Job:
    """One cell to run."""

    experiment: Experiment
    config: Any
    seed: int
    path: Path


def run_experiment(
    experiment: Experiment,
    out: Path,
    *,
    config: Any = None,
    seeds: int | None = None,
    first: int = 0,
    resume: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Result:
    """Run an experiment and save everything.

    Args:
        experiment: what to run.
        out: folder of the run.
        config: replaces the experiment's configuration.
        seeds: number of seeds; None for the experiment's own.
        first: the first seed.
        resume: keep finished cells; otherwise the folder must not hold a run.
        executor: where cells run; default in this process.
        progress: progress reporter.

    Returns:
        The result over seeds ``first`` to ``first + seeds - 1``, the same with any executor.

    Raises:
        OutputError: the folder cannot be written, holds a run that ``resume`` was not asked for, or a damaged cell.
        ConfigError: the folder's run has another configuration, or a training diverged.
    """
    config = experiment.config if config is None else config
    count = experiment.seeds if seeds is None else seeds
    check_range("seeds", count, 1, 10_000)
    check_range("first", first, 0, 10**9)
    folder = RunFolder(out, {"system": experiment.name, "config": as_plain(config)}, resume)
    (out / "cells").mkdir(exist_ok=True)
    jobs = [_Job(experiment, config, seed, out / "cells" / f"seed-{seed}.json") for seed in range(first, first + count)]
    run_missing(_run_cell, jobs, executor, progress)
    stored = [_load(job) for job in jobs]
    cells = {job.seed: content["arms"] for job, content in zip(jobs, stored, strict=True)}
    result = Result.of(experiment, config, cells, sum(content["seconds"] for content in stored))
    folder.finish(result.to_json())
    return result


def _run_cell(job: _Job, progress: Progress) -> None:
    """Run one cell and save it; torch's random state is the cell's own and one thread is used."""
    name, began = f"{job.experiment.name} seed {job.seed}", time.perf_counter()
    progress.begin(name, 1, "cell")
    with torch_threads(1), seeded_torch(integer_seed(job.seed, "cell", job.experiment.name), devices=[]):
        try:
            cell = job.experiment.run(job.seed, job.config)
        except FloatingPointError as error:
            raise ConfigError(f"{job.experiment.name} diverged on seed {job.seed}: {error}") from error
    job.experiment.check_cell(cell)
    seconds = time.perf_counter() - began
    progress.update(name, 1)  # a cell whose parent was killed ends here and does not write next to a resumed run
    arms = {arm: {metric: float(value) for metric, value in metrics.items()} for arm, metrics in cell.items()}
    write_json(job.path, {"seed": job.seed, "seconds": seconds, "arms": arms})
    progress.end(name, f"{seconds:.1f} s")


def _load(job: _Job) -> Mapping[str, Any]:
    content = read_json(job.path)
    arms: Any = content.get("arms")
    seconds = content.get("seconds")
    if content.get("seed") != job.seed or not isinstance(seconds, int | float) or not _is_cell(arms):
        raise OutputError(f"{job.path} is not the cell of seed {job.seed}; delete it to run it again")
    job.experiment.check_cell(arms)
    return content


def _is_cell(arms: Any) -> bool:
    return isinstance(arms, Mapping) and all(
        isinstance(metrics, Mapping) and all(isinstance(value, int | float) for value in metrics.values())
        for metrics in arms.values()
    )
