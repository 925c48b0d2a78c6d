"""Work on a device that is recorded once as a CUDA graph and then replayed: one launch instead of hundreds.

The same functions run as plain calls on the CPU. Work that is recorded must be a pure function over static tensors: it
reads and writes tensors that stay where they are, its shapes and Python numbers are always the same, and nothing in it
waits for the device. ``tests/envs/tape.py`` records and replays such work on the CPU, which shows where it is not.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

import torch

T = TypeVar("T")

_PLAIN_CALLS = 2
"""Calls before the recording: libraries allocate and choose their kernels in them, which a recording must not."""


class Recorder(Protocol):
    """Records work and returns its replay."""

    def __call__(self, work: Callable[[], Any], generators: Sequence[torch.Generator]) -> Callable[[], Any]:
        """Record a call of ``work``.

        Args:
            work: a pure function over static tensors.
            generators: generators that it draws from.

        Returns:
            Function that does the work again and returns the result, in the same tensors every time.
        """
        ...


class Captured(Generic[T]):
    """Work that is called twice, then recorded, and replayed from there on; every call does the work once.

    The result of a replay is overwritten by the next one.

    Args:
        work: a pure function over static tensors.
        record: the recorder; None for plain calls.
        generators: generators that the work draws from.
    """

    def __init__(
        self, work: Callable[[], T], record: Recorder | None, generators: Sequence[torch.Generator] = ()
    ) -> None:
        self._work, self._record, self._generators = work, record, tuple(generators)
        self._calls, self._replay = 0, None if record is not None else work

    def __call__(self) -> T:
        """Do the work and return its result."""
        if self._replay is None and self._calls >= _PLAIN_CALLS:
            assert self._record is not None
            self._replay = self._record(self._work, self._generators)
        self._calls += 1
        return self._work() if self._replay is None else self._replay()

    def forget(self) -> None:
        """Drop the recording, because a tensor that it reads or writes is now another one."""
        self._calls, self._replay = 0, None if self._record is not None else self._work


def recorder_for(device: torch.device) -> Recorder | None:
    """Return the recorder of a device: CUDA graphs, or None, which means plain calls, on the CPU."""
    return record_graph if device.type == "cuda" else None


def record_graph(work: Callable[[], T], generators: Sequence[torch.Generator]) -> Callable[[], T]:
    """Record work as a CUDA graph; see :class:`Recorder`."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with no_garbage_collection(), torch.cuda.graph(graph):
        result = work()

    def replay() -> T:
        graph.replay()
        return result

    return replay


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Suspend garbage collection: freeing a tensor during a recording would corrupt the graph."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
