"""The view protocol, and the results that backends return to an environment.

It declares forms only and computes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch


class View(Protocol):
    """Current state of ``n`` simulations; valid until the next step, reset or view."""

    @property
    def which(self) -> torch.Tensor | slice:
        """(n,) the simulations, or a slice of all of them."""
        ...

    @property
    def state(self) -> Any:
        """State of the robots, :class:`PlanarState` or :class:`SpatialState`."""
        ...

    @property
    def ground(self) -> torch.Tensor:
        """(n,) ground height under the root, m."""
        ...

    @property
    def scan(self) -> torch.Tensor:
        """(n, SCAN_POINTS) ground heights at the scanner's samples, m."""
        ...

    @property
    def touching(self) -> torch.Tensor:
        """(n,) whether a link that must not touch the ground touches it."""
        ...


@dataclass
class Episodes:
    """Statistics of the episodes that ended in a step, one row each, in the order of ``ids``.

    Attributes:
        ids: (m,) simulations whose episode ended.
        total_reward: (m,) sum of the rewards.
        length: (m,) steps.
        distance: (m,) distance covered along x, m.
        success: (m,) whether the episode ended without a fall and within the task's goal.
    """

    ids: torch.Tensor
    total_reward: torch.Tensor
    length: torch.Tensor
    distance: torch.Tensor
    success: torch.Tensor


@dataclass
class Outcome:
    """Rewards, terminations and ended episodes of a step; tensors are not reused by later steps.

    Attributes:
        reward: (n,) float32.
        terminated: (n,) whether the robot fell or its simulation failed.
        truncated: (n,) whether the episode ran out of steps.
        failures: number of simulations that failed.
        episodes: statistics of the ended episodes.
    """

    reward: torch.Tensor
    terminated: torch.Tensor
    truncated: torch.Tensor
    failures: int
    episodes: Episodes
