"""Executors: independent pieces of work one after the other, or in processes side by side.

A piece of work is a module-level function ``work(job, progress) -> result``; jobs and results are pickled between
processes. Results come back in the order of the jobs.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, Protocol, TypeVar

from policykd.progress import Progress
from policykd.threads import cores_for

Job = TypeVar("Job")
Result = TypeVar("Result")
Work = Callable[[Job, Progress], Result]


def ignore(result: Any) -> None:
    """What nobody waits for."""


class Executor(Protocol):
    """Runs independent jobs."""

    def map(
        self,
        work: Work[Job, Result],
        jobs: Sequence[Job],
        progress: Progress,
        on_result: Callable[[Result], None] = ignore,
    ) -> list[Result]:
        """Results of ``work`` for every job.

        Args:
            work: what to do.
            jobs: what to do it with.
            progress: who watches.
            on_result: called in this process with every result as soon as it is there, in no particular order.

        Raises:
            Exception: the first one that a job raised; jobs that have not begun are dropped.
        """
        ...


class Inline:
    """One job after the other, in this process."""

    def map(
        self,
        work: Work[Job, Result],
        jobs: Sequence[Job],
        progress: Progress,
        on_result: Callable[[Result], None] = ignore,
    ) -> list[Result]:
        """See :class:`Executor`."""
        results = []
        for job in jobs:
            results.append(work(job, progress))
            on_result(results[-1])
        return results


class Processes:
    """Jobs side by side in fresh processes.

    Args:
        workers: number of processes; None for one per usable core.
    """

    _POLL = 0.1  # seconds between two looks at what the processes report

    def __init__(self, workers: int | None = None) -> None:
        self._workers = cores_for(workers, "workers")

    def map(
        self,
        work: Work[Job, Result],
        jobs: Sequence[Job],
        progress: Progress,
        on_result: Callable[[Result], None] = ignore,
    ) -> list[Result]:
        """See :class:`Executor`."""
        context = multiprocessing.get_context("spawn")  # torch's and MuJoCo's threads do not survive a fork
        workers = min(self._workers, len(jobs))
        with context.Manager() as manager, ProcessPoolExecutor(workers, mp_context=context) as pool:
            reports = manager.Queue()
            futures = [pool.submit(work, job, _Reporter(reports)) for job in jobs]
            try:
                self._watch(futures, reports, progress, on_result)
                return [future.result() for future in futures]
            except BaseException:
                for process in list(pool._processes.values()):  # a job may be hours from its end
                    process.terminate()
                pool.shutdown(cancel_futures=True)
                raise

    def _watch(
        self,
        futures: Sequence[Future[Result]],
        reports: queue.Queue[Any],
        progress: Progress,
        on_result: Callable[[Result], None],
    ) -> None:
        """Pass reports and results on until every job is done or one has failed."""
        waiting = list(futures)
        while waiting:
            done = [future for future in waiting if future.done()]
            over = len(done) == len(waiting)
            try:
                while True:
                    name, arguments, figures = reports.get(timeout=0.0 if over else self._POLL)
                    getattr(progress, name)(*arguments, **figures)
            except queue.Empty:
                pass
            for future in done:
                on_result(future.result())
            waiting = [future for future in waiting if future not in done]


class _Reporter:
    """Progress of a job in another process; see :class:`policykd.progress.Progress`.

    A job whose parent was killed ends at its next report: nobody else could stop it from writing beside a resumed run.
    """

    def __init__(self, reports: queue.Queue[Any]) -> None:
        self._reports, self._parent = reports, os.getpid()

    def begin(self, name: str, total: int, unit: str) -> None:
        self._reports.put(("begin", (name, total, unit), {}))

    def update(self, name: str, done: int, **figures: float) -> None:
        if os.getppid() != self._parent:
            os._exit(1)
        self._reports.put(("update", (name, done), figures))

    def end(self, name: str, message: str = "") -> None:
        self._reports.put(("end", (name, message), {}))
