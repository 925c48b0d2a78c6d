"""Cells: short, independent pieces of a run, each saved whole in a file of its own and never run again.

Experiments and the loss benchmark both run cells; this module knows neither. It may use executors and progress only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from policykd.executor import Executor, Inline
from policykd.progress import Progress, Silent


class CellJob(Protocol):
    """A piece of work that saves its outcome at ``path``."""

    @property
    def path(self) -> Path:
        """File of the finished cell."""
        ...


Job = TypeVar("Job", bound=CellJob)


def run_missing(
    work: Callable[[Job, Progress], Any],
    jobs: Sequence[Job],
    executor: Executor | None = None,
    progress: Progress | None = None,
    *,
    counted_as: str = "",
) -> None:
    """Run the jobs whose cell is not there yet.

    Args:
        work: ``work(job, progress)``, a function at module level; it writes ``job.path``.
        jobs: All cells of the run.
        executor: Where they run; default in this process.
        progress: Progress reporter.
        counted_as: What the cells are called in one bar that counts them; empty to show each by itself.
    """
    missing = [job for job in jobs if not job.path.exists()]
    if missing:
        reporter = progress or Silent()
        shown = Counted(reporter, counted_as, len(missing)) if counted_as else reporter
        (executor or Inline()).map(work, missing, shown)


class Counted(Progress):
    """Shows many short jobs as one piece of work that counts them.

    Args:
        progress: Progress reporter.
        name: What the jobs are called.
        total: Number of jobs.
    """

    def __init__(self, progress: Progress, name: str, total: int) -> None:
        self._progress, self._name, self._total, self._done = progress, name, total, 0
        self._began = time.perf_counter()
        progress.begin(name, total, name)

    def begin(self, name: str, total: int, unit: str) -> None:
        """Ignore the start of a single job."""

    def update(self, name: str, done: int, **figures: float) -> None:
        """Ignore the progress of a single job."""

    def end(self, name: str, message: str = "") -> None:
        """Count a finished job."""
        self._done += 1
        self._progress.update(self._name, self._done)
        if self._done == self._total:
            self._progress.end(self._name, f"{self._total} in {time.perf_counter() - self._began:.0f} s")
