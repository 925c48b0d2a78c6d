"""Jobs for worker processes; in a module that they import without pytest, which takes longer than most jobs."""

import os
import time
from pathlib import Path

from policykd.errors import ConfigError
from policykd.executor import Processes
from policykd.progress import Silent


def sleep_on(job, progress):
    """Say nothing and do not end."""
    Path(job).write_text("")
    time.sleep(300)


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


def wait_for(job, progress):
    """Return whether the file of a job appears within a minute; a job without a file ends at once."""
    for _ in range(600):
        if job is None or job.exists():
            return True
        time.sleep(0.1)
    return False


def work_on(job, progress):
    """Report and write until the process ends."""
    progress.begin("work", 1000, "ticks")
    for tick in range(1000):
        job.write_text(str(tick))
        progress.update("work", tick)
        time.sleep(0.05)


def supervise(file):
    Processes(1).map(work_on, [file], Silent())
