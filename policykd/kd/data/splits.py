"""Splits that keep groups together: persons, speakers or recordings never appear in two parts.

It reads and changes arrays only; it knows nothing of networks or training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from policykd.errors import ConfigError, UnknownNameError


def split_groups(groups: np.ndarray, shares: Sequence[float], seed: int) -> list[np.ndarray]:
    """Share out whole groups.

    Args:
        groups: Group of every sample ``(N,)``.
        shares: Share of the groups in each part; they sum to one. Every part has at least one group.
        seed: Seeds the draw.

    Returns:
        Sorted positions of each part; together they are all positions, once each.

    Raises:
        ConfigError: The shares do not sum to one, or there are fewer groups than parts.
    """
    if abs(sum(shares) - 1.0) > 1e-9 or min(shares) <= 0:
        raise ConfigError(f"shares must be positive and sum to one, got {tuple(shares)}")
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    if len(names) < len(shares):
        raise ConfigError(f"{len(shares)} parts need at least as many groups, got {len(names)}")
    counts = np.maximum(1, np.floor(np.array(shares) * len(names)).astype(int))
    counts[0] += len(names) - counts.sum()  # the first part is the training part: it takes what rounding leaves
    while counts[0] < 1:
        largest = int(counts.argmax())
        counts[largest] -= 1
        counts[0] += 1
    cuts = np.cumsum(counts)[:-1]
    return [np.flatnonzero(np.isin(groups, part)) for part in np.split(names, cuts)]


def hold_out(groups: np.ndarray, names: Sequence[str], held_out: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of all other groups, and those of the group with this name.

    Raises:
        UnknownNameError: The group is unknown.
    """
    if held_out not in names:
        raise UnknownNameError("group", held_out, names)
    mine = groups == list(names).index(held_out)
    return np.flatnonzero(~mine), np.flatnonzero(mine)


def leave_one_out(groups: np.ndarray, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield for every group that has samples its name, the positions of all others, and its own positions."""
    for name in names:
        others, own = hold_out(groups, names, name)
        if len(own):
            yield name, others, own
