"""Velocity tracking: follow a commanded velocity and keep the heading, or turn at a commanded rate.

It reads the state that it is given and never the engine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from typing_extensions import override

from policykd.envs.tasks.base import Situation, Task
from policykd.envs.tasks.gait import Gait
from policykd.envs.tasks.velocity_terms import TERMS
from policykd.errors import ConfigError, ContractError, UnknownNameError, check_range
from policykd.plain import added

Range = tuple[float, float]


@dataclass(frozen=True)
class RewardTerm:
    """A term of the reward.

    Attributes:
        name: one of :data:`policykd.envs.tasks.velocity_terms.TERMS`.
        weight: factor of the term; negative for a penalty.
        width: size of the error that the term is about, in the units of the term.

    Raises:
        UnknownNameError: for an unknown term; close matches are named.
        ConfigError: for a width that is not positive.
    """

    name: str
    weight: float
    width: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in TERMS:
            raise UnknownNameError("reward term", self.name, TERMS)
        check_range(f"width of {self.name}", self.width, 1e-9, float("inf"))


QUADRUPED_TERMS = (
    RewardTerm("velocity", 1.0, 0.5),
    RewardTerm("yaw_rate", 0.5, 0.5),
    RewardTerm("vertical", -0.1),
    RewardTerm("rocking", -0.02),
    RewardTerm("tilt", -0.2),
    RewardTerm("effort", -0.11),
    RewardTerm("target_change", -0.04),
    RewardTerm("posture", -0.2),
    RewardTerm("air_time", 0.5, 0.2),
)
"""Terms that make quadrupeds trot on any ground."""


_UPRIGHT = (
    RewardTerm("vertical", -0.5),
    RewardTerm("rocking", -0.02),
    RewardTerm("tilt", -2.0),
    RewardTerm("effort", -0.05),
    RewardTerm("target_change", -0.03),
    RewardTerm("posture", -0.2),
    RewardTerm("air_time", 0.5, 0.3),
)
BALANCE_TERMS = (
    RewardTerm("velocity", 1.0, 0.7),
    RewardTerm("yaw_rate", 0.5, 0.5),
    RewardTerm("alive", 1.5),
    *_UPRIGHT,
)
"""Terms that make a humanoid stay on its feet; with less for staying alive it dives forward and falls."""
STRIDE_TERMS = (
    RewardTerm("velocity", 1.0, 0.5),
    RewardTerm("yaw_rate", 0.5, 0.5),
    RewardTerm("alive", 0.3),
    *_UPRIGHT,
)
"""Terms that make a humanoid walk that can keep its balance; from nothing they make it dive."""


GAIT_TERMS = (
    *(term for term in QUADRUPED_TERMS if term.name != "air_time"),
    RewardTerm("gait", 1.0),
    RewardTerm("height", -0.2, 0.1),
)
"""Terms that make quadrupeds move their feet in the rhythm of a gait, at its height."""


@dataclass(frozen=True)
class VelocityTracking(Task):
    """Follow a commanded velocity.

    The reward of a step is the weighted sum of the terms, divided by the sum of the weights of ``velocity``,
    ``yaw_rate``, ``alive`` and ``gait`` and clipped to [0, 1]; it is 0 after a fall. An episode succeeds if the robot
    did not fall and covered at least ``least`` of the commanded distance along the track.

    Attributes:
        speed: commanded forward velocity in evaluations, m/s; negative for backward.
        speeds: range of the commanded forward velocity in training, m/s.
        sideways: range of the commanded velocity to the left in training, m/s; 0 in evaluations.
        turning: range of the commanded yaw rate, rad/s; None to hold the heading along the track, by a yaw rate of
            ``-yaw - 0.5 y / m``, at most 1 rad/s. Evaluations command the middle of the range.
        terms: terms of the reward.
        least: share of the commanded distance that an episode must cover to count as a success; 0 for tasks that do
            not go anywhere.
        gait: what the terms ``gait`` and ``height`` and the group ``gait`` refer to; None for none.

    Raises:
        ConfigError: for a range that is not ascending, a repeated term, or no weight on the velocity.
    """

    speed: float = 1.0
    speeds: Range = (0.4, 1.2)
    sideways: Range = (0.0, 0.0)
    turning: Range | None = None
    terms: tuple[RewardTerm, ...] = QUADRUPED_TERMS
    least: float = 0.5
    gait: Gait | None = added(None)

    spatial: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("speeds", "sideways", "turning"):
            span = getattr(self, name)
            if span is not None and not span[0] <= span[1]:
                raise ConfigError(f"{name} is {span}; the first bound must not be above the second")
        names = [term.name for term in self.terms]
        if len(set(names)) != len(names):
            raise ConfigError(f"terms are {names}; name each at most once")
        if self.scale <= 0:
            raise ConfigError(
                "the terms velocity and yaw_rate need a weight; the reward must say something of the command"
            )
        check_range("least", self.least, 0.0, 1.0)
        aimless = [name for name in names if name in ("gait", "height") and self.gait is None]
        if aimless:
            raise ConfigError(f"the term {aimless[0]} compares with a gait, and the task has none; give it one")

    @property
    def scale(self) -> float:
        """Sum of the weights of tracking, staying alive and keeping a rhythm, by which the reward is divided."""
        return sum(term.weight for term in self.terms if term.name in ("velocity", "yaw_rate", "alive", "gait"))

    @property
    @override
    def groups(self) -> tuple[str, ...]:
        rhythm = ("gait",) if self.gait is not None else ()
        return ("imu", "base_velocity", "joints", "last_action", "command", *rhythm, "scan")

    @override
    def reward(self, now: Situation) -> torch.Tensor:
        raise ContractError("velocity tracking is a task of robots in space; planar robots walk: use walk or run")

    def command_spans(self, fixed: bool) -> tuple[tuple[float, float], ...]:
        """Return the ranges of the commanded forward velocity, velocity to the left and yaw rate.

        Args:
            fixed: only ``speed`` and the middle of ``turning``, as in evaluations.

        Returns:
            Three ranges in m/s, m/s and rad/s; the yaw rate is 0 where the heading is held.
        """
        if not fixed:
            return self.speeds, self.sideways, self.turning or (0.0, 0.0)
        turn = sum(self.turning or (0.0, 0.0)) / 2
        return (self.speed, self.speed), (0.0, 0.0), (turn, turn)

    @override
    def least_distance(self, seconds: float) -> float:
        return self.least * abs(self.speed) * seconds

    @override
    def goal(self, seconds: float) -> tuple[float, float]:
        return super().goal(seconds) if self.least > 0 else (-math.inf, math.inf)
