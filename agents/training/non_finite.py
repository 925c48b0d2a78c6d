"""What is said of an observation or a reward that is NaN or infinite."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def describe_non_finite(observations: np.ndarray, rewards: np.ndarray, groups: Mapping[str, int]) -> str:
    """Return which feature of which simulation is NaN or infinite, or whose reward is.

    Args:
        observations: (n, features), the groups next to each other.
        rewards: (n,).
        groups: observation groups, name to number of features, in order.
    """
    bad = np.argwhere(~np.isfinite(observations))
    if not len(bad):
        simulation = int(np.flatnonzero(~np.isfinite(rewards))[0])
        return f"the reward of simulation {simulation} is {rewards[simulation]}"
    simulation, column = bad[0]
    value = observations[simulation, column]
    for name, size in groups.items():
        if column < size:
            return f"feature {column} of observation group {name} of simulation {simulation} is {value}"
        column -= size
    return f"column {bad[0][1]} of the observations of simulation {simulation} is {value}"
