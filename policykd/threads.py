"""How many threads the work may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from policykd.errors import check_range


def usable_cores() -> int:
    """Cores that this process may use, which a container or ``taskset`` can restrict."""
    return len(os.sched_getaffinity(0))


def cores_for(threads: int | None, field: str = "threads") -> int:
    """The cores that were asked for; None for all that are usable.

    Raises:
        ConfigError: for none, or very many, naming the field.
    """
    if threads is None:
        return usable_cores()
    check_range(field, threads, 1, 1024)
    return threads


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use ``threads`` threads inside the block.

    Policies are too small to gain from a second one, and torch's idle threads spin: beside a simulation that uses all
    cores they cost more than they give (measured on 2 cores: 35 % of the environment steps).
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
