"""The interface of tasks: rewards, initial states, terminations and success.

A task reads the state that it is given and never the engine.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from policykd.envs.kinematics import PlanarState
from policykd.envs.observations import Surroundings
from policykd.envs.robots import Family, PlanarRobot, Robot

Rows = slice | torch.Tensor
"""Selection of some of n simulations."""

Start = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""(m, nq) generalized positions, (m, nv) generalized velocities and (m,) times of the gait clock, s."""


@dataclass
class Situation:
    """State of n simulations after a step, as tasks read it.

    Attributes:
        robot: the robot.
        mass: (links,) fraction of the robot's mass in each link.
        state: state of the robots.
        around: ground and gait clock.
    """

    robot: PlanarRobot
    mass: torch.Tensor
    state: PlanarState
    around: Surroundings

    def rows(self, which: Rows) -> Situation:
        """Return the situation of the simulations ``which``."""
        return replace(self, state=self.state.rows(which), around=self.around.rows(which))


class Task(ABC):
    """Base class of tasks. Tasks are frozen dataclasses: tasks with equal parameters are equal.

    Attributes:
        spatial: whether the task is one of robots in space; otherwise it is one of planar robots.
        family: the family of robots that the task is one of, if ``spatial`` does not say it.
        bounded: whether rewards are in [0, 1], so that retention is measured from 0; otherwise it is measured from the
            reward of random actions.
    """

    spatial: ClassVar[bool] = False
    family: ClassVar[Family | None] = None
    bounded: ClassVar[bool] = True

    def fits(self, robot: Robot) -> bool:
        """Return whether the task is one of a robot's."""
        return robot.family == (self.family or ("space" if self.spatial else "plane"))

    @property
    @abstractmethod
    def speed(self) -> float:
        """Commanded forward velocity, m/s; negative for backward. Subclasses may implement it as a dataclass field."""

    @abstractmethod
    def reward(self, now: Situation) -> torch.Tensor:
        """Return (n,) rewards in [0, 1] of a step, before falls are taken into account."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Default observation groups of a skill with this task."""
        return ("proprio", "terrain", "command")

    @property
    def command(self) -> tuple[float, ...]:
        """Features of the observation group ``command``, see :data:`policykd.envs.observations.COMMAND`."""
        return (self.speed, 0.0, 0.0)

    def forbidden(self, now: Situation) -> torch.Tensor | None:
        """Return (n,) whether a robot breaks a rule, which ends its episode like a fall; None for no rules."""
        return None

    def start(self, robot: Robot, start: Start) -> Start:
        """Return the initial states of episodes, given the default ones.

        The default states stand, move forward and have a random time of the gait clock.
        """
        return start

    def least_distance(self, seconds: float) -> float:
        """Return the distance in the commanded direction that an episode must cover to count as a success, m."""
        return 0.5 * abs(self.speed) * seconds

    def goal(self, seconds: float) -> tuple[float, float]:
        """Return the smallest and largest final x at which an episode counts as a success, m."""
        least = self.least_distance(seconds)
        return (-math.inf, -least) if self.speed < 0 else (least, math.inf)
