"""The view protocol, and the results that backends return to an environment.

It declares forms only and computes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from policykd.envs.env_records import Episodes


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
