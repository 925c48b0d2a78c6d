"""Compiled loops over parts of the simulations, one part per thread.

It knows neither simulations nor loops: it calls a function that releases the interpreter for slices of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

LEAST = 256
"""Rows of the smallest part that is worth a thread. Handing one over took 15 to 146 microseconds on two kinds of
machines, a robot's row 1.2."""


class Parts:
    """Splits rows among threads. Rows must not depend on each other, so that results do not depend on the split.

    Args:
        rows: number of rows.
        threads: threads that may be used, the caller's included.

    Attributes:
        slices: the parts.
    """

    def __init__(self, rows: int, threads: int) -> None:
        count = max(1, min(threads, rows // LEAST))
        bounds = [rows * i // count for i in range(count + 1)]
        self.slices = [slice(a, b) for a, b in pairwise(bounds)]
        self._pool = ThreadPoolExecutor(count - 1, "policykd-loops") if count > 1 else None

    def run(self, loop: Callable[[slice], None]) -> None:
        """Call ``loop`` once for every part, the first one in this thread; return when all are done.

        Raises:
            Exception: what a call raised.
        """
        first, *others = self.slices
        if self._pool is None:
            loop(first)
            return
        waiting = [self._pool.submit(loop, part) for part in others]
        loop(first)
        for future in waiting:
            future.result()
