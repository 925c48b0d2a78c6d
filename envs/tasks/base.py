"""What a task is: what it rewards, how its episodes begin and end, and when they are a success."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch

from policykd.envs.kinematics import PlanarState
from policykd.envs.observations import Surroundings
from policykd.envs.robots import Robot

Rows = slice | torch.Tensor
"""Which of n simulations."""

Start = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""(m, nq) generalized positions, (m, nv) generalized velocities and (m,) times of the gait clock, s."""


@dataclass
class Situation:
    """What a task may read of n simulations after a step.

    Attributes:
        robot: the robot.
        mass: (links,) fraction of the robot's mass in each link.
        state: the state.
        around: ground and gait clock.
    """

    robot: Robot
    mass: torch.Tensor
    state: PlanarState
    around: Surroundings

    def rows(self, which: Rows) -> Situation:
        """The simulations ``which``."""
        return replace(self, state=self.state.rows(which), around=self.around.rows(which))


class Task(ABC):
    """What a skill asks for. Tasks are frozen dataclasses: equal parameters make equal tasks."""

    @property
    @abstractmethod
    def speed(self) -> float:
        """Commanded forward velocity, m/s; negative for backwards. A field with a default will do."""

    @abstractmethod
    def reward(self, now: Situation) -> torch.Tensor:
        """(n,) rewards in [0, 1] of a step, before falls are taken into account."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Observation groups of a skill with this task, unless others are asked for."""
        return ("proprio", "terrain", "command")

    @property
    def command(self) -> tuple[float, ...]:
        """The features of the observation group ``command``, see :data:`policykd.envs.observations.COMMAND`."""
        return (self.speed, 0.0, 0.0)

    def forbidden(self, now: Situation) -> torch.Tensor | None:
        """(n,) whether a robot does what ends its episode like a fall; None for a task that forbids nothing more."""
        return None

    def start(self, robot: Robot, start: Start) -> Start:
        """How episodes begin, given how they would: standing, moving forward, at a random time of the gait clock."""
        return start

    def least_distance(self, seconds: float) -> float:
        """Distance that an episode must cover in the commanded direction to count as a success, m."""
        return 0.5 * abs(self.speed) * seconds

    def goal(self, seconds: float) -> tuple[float, float]:
        """Where an episode must end to count as a success: smallest and largest x, m."""
        least = self.least_distance(seconds)
        return (-math.inf, -least) if self.speed < 0 else (least, math.inf)
