"""Numbers of cores and threads.

It asks the operating system and sets torch's threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from policykd.errors import check_range


def usable_cores() -> int:
    """Return the number of cores that this process may use; a container or ``taskset`` can restrict it."""
    return len(os.sched_getaffinity(0))


def cores_for(threads: int | None, field: str = "threads") -> int:
    """Return the requested number of cores; for None, all usable ones.

    Raises:
        ConfigError: naming the field, for a number outside [1, 1024].
    """
    if threads is None:
        return usable_cores()
    check_range(field, threads, 1, 1024)
    return threads


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use ``threads`` threads inside the block.

    Acting policies are too small to gain from a second thread, and torch's idle threads spin: during a simulation that
    uses all cores they cost more than they gain (measured on 2 cores: 35 % of the environment steps). The gradient
    steps of a merge, between simulations, may use more than one.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
