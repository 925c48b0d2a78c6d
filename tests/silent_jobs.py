"""A job that says nothing and does not end by itself; in a module that worker processes can import."""

import time
from pathlib import Path


def sleep_on(job, progress):
    Path(job).write_text("")
    time.sleep(300)
