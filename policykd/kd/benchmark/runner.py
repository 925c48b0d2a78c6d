"""Running a benchmark: teachers, then cells, each saved whole, then the result.

The folder of a benchmark::

    config.json                  task, networks, training, tuning budget; a resumed run must ask for the same
    teachers/seed-3.safetensors  the teacher of seed 3 and its figures
    cells/dkd-seed3.json         what DKD reached on seed 3; a cell that is there is never run again
    result.json                  every value, effects, intervals; written anew whenever the run ends

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
from policykd.plain import as_plain
from policykd.progress import Progress, Silent
from policykd.runs import RunFolder
from policykd.threads import torch_threads


@dataclass(frozen=True)
class _TeacherJob:
    """One teacher to train."""

    config: BenchConfig
    seed: int
    folder: Path


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
        progress: Who watches.

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
    executor, progress, seeds = executor or Inline(), progress or Silent(), range(config.seeds)
    jobs = [CellJob(config, method, seed, out) for seed in seeds for method in config.methods]
    missing = [job for job in jobs if not job.path.exists()]
    teachers = [_TeacherJob(config, seed, out) for seed in seeds if not teacher_path(out, seed).exists()]
    if teachers:
        executor.map(run_teacher, teachers, _Counted(progress, "teachers", len(teachers)))
    if missing:
        executor.map(run_cell, missing, _Counted(progress, "cells", len(missing)))
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


class _Counted:
    """Shows many short jobs as one piece of work that counts them.

    Args:
        progress: Who watches.
        name: What is done.
        total: Number of jobs.
    """

    def __init__(self, progress: Progress, name: str, total: int) -> None:
        self._progress, self._name, self._total, self._done = progress, name, total, 0
        self._began = time.perf_counter()
        progress.begin(name, total, name)

    def begin(self, name: str, total: int, unit: str) -> None:
        """A job begins; not shown."""

    def update(self, name: str, done: int, **figures: float) -> None:
        """A job goes on; not shown."""

    def end(self, name: str, message: str = "") -> None:
        """A job is over."""
        self._done += 1
        self._progress.update(self._name, self._done)
        if self._done == self._total:
            self._progress.end(self._name, f"{self._total} in {time.perf_counter() - self._began:.0f} s")
