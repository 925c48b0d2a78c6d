"""Jobs as jobs of a Slurm cluster by submitit (extra ``[slurm]``), or as its local processes.

All machines must see the folder of the run. A job that was killed or preempted is submitted again and goes on from its
own checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from typing_extensions import override

from policykd.errors import MissingDependencyError, OutputError, check_range
from policykd.executor import Executor, Job, Report, Reporter, Result, Work, ignore
from policykd.progress import Progress

RETRIES = 3
"""How often a job is submitted again that ended without a result; an error of the job itself is final."""

_POLL = 0.5  # seconds between two looks at finished jobs and reports


class SlurmExecutor(Executor):
    """Runs jobs of one core each.

    Args:
        folder: folder for submitit's files and for reports; visible to all machines.
        workers: largest number of jobs at a time; None for all.
        cluster: ``slurm``, or ``local`` for processes of this machine.
        partition: Slurm partition; None for the cluster's default.
        minutes: time limit of a job.

    Raises:
        MissingDependencyError: without the extra ``slurm``.
        ConfigError: for fewer workers than one.
    """

    def __init__(
        self,
        folder: Path,
        workers: int | None = None,
        *,
        cluster: str = "slurm",
        partition: str | None = None,
        minutes: int = 24 * 60,
    ) -> None:
        if workers is not None:
            check_range("workers", workers, 1, 1_000_000)
        check_range("minutes", minutes, 1, 100_000)
        self._submitit, self._folder, self._workers = _import_submitit(), folder, workers
        self._executor = self._submitit.AutoExecutor(folder=folder / "%j", cluster=cluster)
        options = {"slurm_partition": partition} if partition else {}
        self._executor.update_parameters(name="policykd", timeout_min=minutes, cpus_per_task=1, **options)

    @override
    def map(
        self,
        work: Work[Job, Result],
        jobs: Sequence[Job],
        progress: Progress,
        on_result: Callable[[Result], None] = ignore,
    ) -> list[Result]:
        self._folder.mkdir(parents=True, exist_ok=True)
        waiting = list(enumerate(jobs))
        running: list[_Submitted] = []
        results: dict[int, Result] = {}
        try:
            while waiting or running:
                while waiting and len(running) < (self._workers or len(jobs)):
                    running.append(self._submit(work, *waiting.pop(0)))
                time.sleep(_POLL)
                for one in list(running):
                    one.forward(progress)
                    if one.handle.done():
                        one.forward(progress)  # what it said since the last look
                        running.remove(one)
                        self._collect(one, work, running, results, on_result)
        finally:
            for one in running:
                one.handle.cancel()
        return [results[place] for place in range(len(jobs))]

    def _submit(self, work: Work[Job, Result], place: int, job: Job, attempt: int = 0) -> _Submitted:
        reports = self._folder / f"reports-{place}-{attempt}.jsonl"
        reports.unlink(missing_ok=True)
        handle = self._executor.submit(_run_job, work, job, reports)
        return _Submitted(place, job, attempt, handle, reports)

    def _collect(
        self,
        one: _Submitted,
        work: Work[Job, Result],
        running: list[_Submitted],
        results: dict[int, Result],
        on_result: Callable[[Result], None],
    ) -> None:
        """Keep the result of a job, or submit it again if it ended without one."""
        error = one.handle.exception()
        if isinstance(error, self._submitit.core.utils.UncompletedJobError):
            if one.attempt >= RETRIES:
                raise OutputError(f"job {one.place} ended {RETRIES + 1} times without a result; see {self._folder}")
            running.append(self._submit(work, one.place, one.job, one.attempt + 1))
            return
        outcome = one.handle.result()
        if isinstance(outcome, BaseException):
            raise outcome
        results[one.place] = outcome
        on_result(outcome)


@dataclass
class _Submitted:
    """A job that was submitted: its place, itself, earlier attempts, submitit's handle, and its reports."""

    place: int
    job: Any
    attempt: int
    handle: Any
    reports: Path
    read: int = 0

    def forward(self, progress: Progress) -> None:
        """Pass on the whole lines that were written since the last look."""
        if not self.reports.exists():
            return
        with self.reports.open() as file:
            file.seek(self.read)
            while (line := file.readline()).endswith("\n"):
                name, arguments, figures = json.loads(line)
                getattr(progress, name)(*arguments, **figures)
                self.read = file.tell()


def _run_job(work: Work[Job, Result], job: Job, reports: Path) -> Any:
    """Return the result of a job, or the error that it raised: submitit would turn that into a text."""
    try:
        return work(job, Reporter(partial(_append, reports)))
    except Exception as error:
        return error


def _append(path: Path, report: Report) -> None:
    """Write a report as a line of a file."""
    name, arguments, figures = report
    plain = {key: float(value) for key, value in figures.items()}
    with path.open("a") as file:
        file.write(json.dumps([name, arguments, plain]) + "\n")


def _import_submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        message = f"this executor needs the extra: pip install 'policykd[slurm]' ({error})"
        raise MissingDependencyError(message) from None
    return submitit
