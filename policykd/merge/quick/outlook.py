"""Outlook of a merge: labeled states until a retention is kept, and time left.

These are estimates for the display; no decision depends on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_FARTHEST = 100


def states_until(retention: float, states: Sequence[int], kept: Sequence[float]) -> float | None:
    """Return the labeled states at which the weakest skill is expected to keep a retention.

    The gap to the teacher is taken to fall as a power of the labeled states: a line through the logarithms of both, by
    least squares.

    Args:
        retention: the retention, below 1.
        states: labeled states after each round, rising.
        kept: lowest retention over the skills after each round; where it is 1 or more, the gap counts as 0.001.

    Returns:
        The states, at least the last number; None for fewer than two rounds, a gap that does not fall, or an estimate
        beyond a hundred times the states so far, which says nothing.
    """
    if len(states) < 2:
        return None
    x = [math.log(n) for n in states]
    y = [math.log(max(1.0 - value, 1e-3)) for value in kept]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    slope /= sum((a - mean_x) ** 2 for a in x)
    if slope >= 0.0:
        return None
    needed = mean_x + (math.log(1.0 - retention) - mean_y) / slope
    if needed > math.log(_FARTHEST * states[-1]):
        return None
    return max(float(states[-1]), math.exp(needed))


def seconds_left(target: float | None, states: int, most: float, seconds: float) -> float:
    """Return the expected time until a number of labeled states, at the pace so far.

    Args:
        target: labeled states that are expected to suffice; None if unknown, which counts as ``most``.
        states: labeled states so far.
        most: labeled states after the last round of the budget.
        seconds: time so far, s.
    """
    wanted = most if target is None else min(target, most)
    return max(0.0, wanted - states) * seconds / max(1, states)
