"""Executors: order, progress across processes, and failure."""

import os
import time

import pytest

from policykd.errors import ConfigError
from policykd.executor import Inline, Processes


class Notes:
    """Progress that takes notes."""

    def __init__(self):
        self.notes = []

    def begin(self, name, total, unit):
        self.notes.append(("begin", name, total, unit))

    def update(self, name, done, **figures):
        self.notes.append(("update", name, done, figures))

    def end(self, name, message=""):
        self.notes.append(("end", name, message))


def square(job, progress):
    progress.begin(f"job {job}", 1, "squares")
    time.sleep(0.3 - 0.1 * job)  # later jobs end earlier
    progress.update(f"job {job}", 1, square=job * job)
    progress.end(f"job {job}", "done")
    return job * job, os.getpid()


def fail(job, progress):
    if job == 1:
        raise ConfigError("job 1 is wrong")
    time.sleep(0.1)
    return job


@pytest.mark.parametrize("executor", [Inline(), Processes(2)])
def test_results_are_in_order_and_progress_arrives(executor):
    notes = Notes()
    results = executor.map(square, [0, 1, 2], notes)
    assert [r[0] for r in results] == [0, 1, 4]
    for job in range(3):
        mine = [n for n in notes.notes if n[1] == f"job {job}"]
        assert mine == [
            ("begin", f"job {job}", 1, "squares"),
            ("update", f"job {job}", 1, {"square": job * job}),
            ("end", f"job {job}", "done"),
        ]


def test_processes_are_other_processes():
    pids = {pid for _, pid in Processes(2).map(square, [1, 2], Notes())}
    assert os.getpid() not in pids


@pytest.mark.parametrize("executor", [Inline(), Processes(2)])
def test_the_first_failure_is_raised(executor):
    with pytest.raises(ConfigError, match="job 1 is wrong"):
        executor.map(fail, [0, 1, 2, 3, 4, 5], Notes())


def test_no_workers_are_refused():
    with pytest.raises(ConfigError, match="workers"):
        Processes(0)
