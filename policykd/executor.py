"""Executors: run independent jobs sequentially, or in parallel processes.

The work is a module-level function ``work(job, progress) -> result``; jobs and results are pickled between processes.
Results are returned in the order of the jobs.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from multiprocessing.managers import SyncManager
from typing import Any, Protocol, TypeVar

from typing_extensions import override

from policykd.progress import Progress
from policykd.threads import cores_for

Job = TypeVar("Job")
Result = TypeVar("Result")
Work = Callable[[Job, Progress], Result]
Report = tuple[str, tuple[Any, ...], dict[str, float]]
_WATCH = 0.5  # seconds between two looks at whether the parent process is there


def ignore(result: Any) -> None:
    """Discard a result (the default `on_result`)."""


class Executor(Protocol):
    """Runs independent jobs."""

    def map(
        self,
        work: Work[Job, Result],
        jobs: Sequence[Job],
        progress: Progress,
        on_result: Callable[[Result], None] = ignore,
    ) -> list[Result]:
        """Return the results of ``work`` for every job, in the order of the jobs.

        Args:
            work: function of a job and a progress reporter.
            jobs: arguments of the calls.
            progress: progress reporter.
            on_result: called in this process with each result as soon as it is available, in no particular order.

        Raises:
            Exception: the first exception that a job raised; jobs that have not started are dropped.
        """
        ...

    def keep_workers(self) -> AbstractContextManager[None]:
        """Return a context in which several calls of :meth:`map` share workers, where starting them costs time."""
        return nullcontext()


class Inline(Executor):
    """Runs one job after the other in this process."""

    @override
    def map(
        self,
        work: Work[Job, Result],
        jobs: Sequence[Job],
        progress: Progress,
        on_result: Callable[[Result], None] = ignore,
    ) -> list[Result]:
        results = []
        for job in jobs:
            results.append(work(job, progress))
            on_result(results[-1])
        return results


class Processes(Executor):
    """Runs jobs in parallel, in newly started processes.

    Args:
        workers: number of processes; None for one per usable core.
    """

    _POLL = 0.1  # seconds to wait for a progress report before looking for finished jobs

    def __init__(self, workers: int | None = None) -> None:
        self._workers = cores_for(workers, "workers")
        self._kept: ExitStack | None = None
        self._started: tuple[ProcessPoolExecutor, queue.Queue[Any]] | None = None

    @override
    @contextmanager
    def keep_workers(self) -> Iterator[None]:
        """Keep the processes between calls of :meth:`map`: each imports torch only once.

        They start with the first call, no more than there are jobs, and end with the context.
        """
        if self._kept is not None:
            yield
            return
        with ExitStack() as self._kept:
            try:
                yield
            finally:
                self._kept = self._started = None

    @override
    def map(
        self,
        work: Work[Job, Result],
        jobs: Sequence[Job],
        progress: Progress,
        on_result: Callable[[Result], None] = ignore,
    ) -> list[Result]:
        with self.keep_workers():
            pool, reports = self._started = self._started or self._start()
            futures = [pool.submit(work, job, Reporter(reports.put)) for job in jobs]
            try:
                self._watch(futures, reports, progress, on_result)
                return [future.result() for future in futures]
            except BaseException:
                for process in list(pool._processes.values()):  # a job may run for hours more
                    process.terminate()
                pool.shutdown(cancel_futures=True)
                self._started = None
                raise

    def _start(self) -> tuple[ProcessPoolExecutor, queue.Queue[Any]]:
        """Return a pool, which starts a process for a job that finds none idle, and the queue of reports."""
        assert self._kept is not None
        context = multiprocessing.get_context("spawn")  # torch's and MuJoCo's threads do not survive a fork
        parent = (os.getpid(),)
        manager = SyncManager(ctx=context)
        manager.start(_end_with_parent, parent)
        self._kept.enter_context(manager)
        pool = ProcessPoolExecutor(self._workers, mp_context=context, initializer=_end_with_parent, initargs=parent)
        return self._kept.enter_context(pool), manager.Queue()

    def _watch(
        self,
        futures: Sequence[Future[Result]],
        reports: queue.Queue[Any],
        progress: Progress,
        on_result: Callable[[Result], None],
    ) -> None:
        """Forward reports and results until all jobs are done or one has failed."""
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


def _end_with_parent(parent: int) -> None:
    """End this process soon after its parent process, also if that is killed.

    Otherwise a job would go on writing into the folder of a run that may have been resumed meanwhile.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH)
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


class Reporter(Progress):
    """Sends the progress of a job to where its executor reads it.

    Args:
        send: takes one report: name of a method of :class:`policykd.progress.Progress`, its arguments, its figures.
    """

    def __init__(self, send: Callable[[Report], None]) -> None:
        self._send = send

    @override
    def begin(self, name: str, total: int, unit: str) -> None:
        self._send(("begin", (name, total, unit), {}))

    @override
    def update(self, name: str, done: int, **figures: float) -> None:
        self._send(("update", (name, done), figures))

    @override
    def end(self, name: str, message: str = "") -> None:
        self._send(("end", (name, message), {}))
