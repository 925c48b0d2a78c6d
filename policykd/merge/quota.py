"""Quotas: how simulations and minibatches are split over the skills."""

from __future__ import annotations

from collections.abc import Sequence


def shares(gaps: Sequence[float], adaptive: float) -> list[float]:
    """Share of every skill: an equal part of ``1 - adaptive``, and of ``adaptive`` in proportion to the gaps.

    Args:
        gaps: how far the student is behind the teacher on each skill, >= 0; all 0 is no preference.
        adaptive: in [0, 1).

    Returns:
        Shares that sum to 1.
    """
    total, count = sum(gaps), len(gaps)
    if total <= 0:
        return [1.0 / count] * count
    return [(1.0 - adaptive) / count + adaptive * gap / total for gap in gaps]


def split(total: int, parts: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to shares: at least 1 each, ``total`` together where that allows it.

    What rounding leaves over goes to the largest remainders.
    """
    exact = [part * total for part in parts]
    counts = [max(1, int(value + 1e-9)) for value in exact]
    order = sorted(range(len(parts)), key=lambda i: counts[i] - exact[i])
    for i in order[: max(0, total - sum(counts))]:
        counts[i] += 1
    return counts
