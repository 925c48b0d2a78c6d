"""Jobs for the tests of executors on other machines, in a module that their workers can import."""

import os
import signal
import time
from pathlib import Path

from policykd.errors import ConfigError


def square(job, progress):
    progress.begin(f"job {job}", 1, "squares")
    time.sleep(0.2 - 0.1 * job)  # later jobs end earlier
    progress.update(f"job {job}", 1, square=job * job)
    progress.end(f"job {job}", "done")
    return job * job


def fail(job, progress):
    if job == 1:
        raise ConfigError("job 1 is wrong")
    return job


def die_once(job, progress):
    """End like a killed process at the first attempt; the second finds the mark of the first."""
    mark = Path(job)
    if mark.exists():
        return "second attempt"
    mark.write_text("")
    os.kill(os.getpid(), signal.SIGKILL)


def die(job, progress):
    with Path(job).open("a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)
