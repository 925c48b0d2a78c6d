"""Running a benchmark: teachers, then cells, each saved whole, then the result.

The folder of a benchmark::

    config.json                  task, networks, training, tuning budget; a resumed run must ask for the same
    teachers/seed-3.safetensors  the teacher of seed 3 and its figures
    cells/dkd-seed3.json         what DKD reached on seed 3; a cell that is there is never run again
    result.json                  every value, effects, intervals; written again whenever the run ends

Methods, seeds and baseline are not part of ``config.json``: ``--resume`` with more of them runs what is missing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from policykd.errors import ConfigError
from policykd.executor import Executor, Inline
from policykd.kd.benchmark.cells import CellJob, load_cell, run_cell
from policykd.kd.benchmark.config import BenchConfig
from policykd.kd.benchmark.placements import runnable
from policykd.kd.benchmark.results import BenchResult
from policykd.kd.benchmark.seed_context import teacher_figures, teacher_path, train_teacher
from policykd.kd.experiments.cells import run_missing
from policykd.plain import as_plain
from policykd.progress import Progress
from policykd.runs import RunFolder
from policykd.threads import torch_threads


@dataclass(frozen=True)
class _TeacherJob:
    """One teacher to train."""

    config: BenchConfig
    seed: int
    folder: Path

    @property
    def path(self) -> Path:
        """Where the teacher is saved."""
        return teacher_path(self.folder, self.seed)


def run_benchmark(
    config: BenchConfig,
    out: Path,
    *,
    resume: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> BenchResult:
    """Run a benchmark and save everything.

    Args:
        config: What to run.
        out: Folder of the run.
        resume: Keep finished cells and teachers; otherwise the folder must not hold a run.
        executor: Where teachers and cells run; default in this process. The values are the same with any, the times
            are not.
        progress: Progress reporter.

    Raises:
        ConfigError: A method cannot run on the networks, a training diverged, or the folder's run has another
            configuration; the fields are named.
        OutputError: The folder cannot be written, holds a run that ``resume`` was not asked for, or a damaged file.
    """
    for method, reason in runnable(config).items():
        if reason:
            raise ConfigError(f"method {method} cannot run on task {config.task}: {reason}; leave it out")
    began = time.perf_counter()
    folder = RunFolder(out, as_plain(config.identity), resume)
    for name in ("teachers", "cells"):
        (out / name).mkdir(exist_ok=True)
    seeds = range(config.seeds)
    teachers = [_TeacherJob(config, seed, out) for seed in seeds]
    jobs = [CellJob(config, method, seed, out) for seed in seeds for method in config.methods]
    executor = executor or Inline()
    with executor.keep_workers():
        run_missing(run_teacher, teachers, executor, progress, counted_as="teachers")
        run_missing(run_cell, jobs, executor, progress, counted_as="cells")
    result = BenchResult.of(
        config,
        [load_cell(job) for job in jobs],
        [teacher_figures(out, seed) for seed in seeds],
        time.perf_counter() - began,
    )
    folder.finish(result.to_json())
    return result


def run_teacher(job: _TeacherJob, progress: Progress) -> None:
    """Train and save one teacher on one thread."""
    name = f"teacher of seed {job.seed}"
    progress.begin(name, 1, "teachers")
    with torch_threads(1):
        train_teacher(job.config, job.seed, job.folder)
    progress.update(name, 1)
    progress.end(name)
