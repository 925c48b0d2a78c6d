"""What backends tell an environment about its simulations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from policykd.envs.kinematics import PlanarState
from policykd.envs.robots import Robot

SLACK = 0.5
"""How far a robot may get from the center of its window of boxes before the window follows, m."""


def window_width(robot: Robot) -> float:
    """Width of ground that the feet can reach until the window next follows, m; 0.3 m covers one step's travel."""
    return 2 * (robot.reach + SLACK + 0.3)


class View(Protocol):
    """``n`` simulations as they are now; valid until the next step, reset or look."""

    @property
    def which(self) -> torch.Tensor | slice:
        """(n,) the simulations, or a slice of all of them."""
        ...

    @property
    def state(self) -> PlanarState:
        """State of the robots."""
        ...

    @property
    def ground(self) -> torch.Tensor:
        """(n,) height of the ground under the root, m."""
        ...

    @property
    def scan(self) -> torch.Tensor:
        """(n, SCAN_POINTS) heights of the ground at the scanner's samples, m."""
        ...

    @property
    def touching(self) -> torch.Tensor:
        """(n,) whether a part touches the ground that must not."""
        ...


@dataclass
class Episodes:
    """Statistics of the episodes that ended in a step, one row each, in the order of ``ids``.

    Attributes:
        ids: (m,) simulations whose episode ended.
        total_reward: (m,) sum of the rewards.
        length: (m,) steps.
        distance: (m,) distance covered along x, m.
        success: (m,) whether the whole episode went by without a fall and covered the task's least distance.
    """

    ids: torch.Tensor
    total_reward: torch.Tensor
    length: torch.Tensor
    distance: torch.Tensor
    success: torch.Tensor


@dataclass
class Outcome:
    """What a step was worth and which episodes it ended; tensors are the caller's to keep.

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
