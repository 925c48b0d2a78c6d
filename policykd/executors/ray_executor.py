"""Jobs as tasks of Ray (extra ``[ray]``): on this machine, or on a cluster that sees the same folders.

A task whose worker is killed is started again; jobs go on from their own checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from typing_extensions import override

from policykd.errors import MissingDependencyError, OutputError, check_range
from policykd.executor import Executor, Job, Reporter, Result, Work, ignore
from policykd.progress import Progress

RETRIES = 3
"""How often a job is started again whose worker was killed; an error of the job itself is final."""

_POLL = 0.2  # seconds between two looks at finished tasks and reports


class RayExecutor(Executor):
    """Runs jobs as Ray tasks of one core each.

    Args:
        workers: largest number of tasks at a time; None for as many as the cluster has cores.
        address: address of a running cluster, ``auto`` for the one of this machine; None to start one here for the
            time of the jobs.

    Raises:
        MissingDependencyError: without the extra ``ray``.
        ConfigError: for fewer workers than one.
    """

    def __init__(self, workers: int | None = None, *, address: str | None = None) -> None:
        if workers is not None:
            check_range("workers", workers, 1, 1_000_000)
        self._ray, self._workers, self._address = _import_ray(), workers, address

    @override
    def map(
        self,
        work: Work[Job, Result],
        jobs: Sequence[Job],
        progress: Progress,
        on_result: Callable[[Result], None] = ignore,
    ) -> list[Result]:
        started = not self._ray.is_initialized()
        if started:
            self._start()
        try:
            return self._run(work, jobs, progress, on_result)
        finally:
            if started:
                self._ray.shutdown()

    def _start(self) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if self._address is None:
            options |= {"num_cpus": self._workers, "include_dashboard": False}
        self._ray.init(self._address, **options)

    def _run(
        self,
        work: Work[Job, Result],
        jobs: Sequence[Job],
        progress: Progress,
        on_result: Callable[[Result], None],
    ) -> list[Result]:
        from ray.util.queue import Queue

        reports = Queue(actor_options={"num_cpus": 0})
        task = self._ray.remote(_run_job).options(max_retries=RETRIES, num_cpus=1)
        waiting = list(enumerate(jobs))
        running: dict[Any, int] = {}
        results: dict[int, Result] = {}
        try:
            while waiting or running:
                while waiting and len(running) < (self._workers or len(jobs)):
                    place, job = waiting.pop(0)
                    running[task.remote(work, job, reports)] = place
                done, _ = self._ray.wait(list(running), num_returns=1, timeout=_POLL)
                _forward(reports, progress)
                for reference in done:
                    place = running.pop(reference)
                    results[place] = found = self._result(reference, place)
                    on_result(found)
        finally:
            for reference in running:
                self._ray.cancel(reference, force=True)
            reports.shutdown(force=True)
        return [results[place] for place in range(len(jobs))]

    def _result(self, reference: Any, place: int) -> Any:
        """Return what a task returned; an error of the job is raised as itself."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.WorkerCrashedError as error:
            raise OutputError(f"job {place} ended {RETRIES + 1} times without a result: {error}") from None


def _run_job(work: Work[Job, Result], job: Job, reports: Any) -> Result:
    return work(job, Reporter(reports.put))


def _forward(reports: Any, progress: Progress) -> None:
    """Pass on the reports that have arrived; a job that was started again begins with no progress."""
    for name, arguments, figures in reports.get_nowait_batch(reports.qsize()):
        getattr(progress, name)(*arguments, **figures)


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(f"this executor needs the extra: pip install 'policykd[ray]' ({error})") from None
    return ray
