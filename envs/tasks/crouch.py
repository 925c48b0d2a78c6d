"""Walking crouched under a low ceiling.

It reads the state that it is given and never the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from typing_extensions import override

from policykd.envs.tasks.base import Situation, Task
from policykd.envs.tasks.terms import (
    check_terms,
    effort,
    forward_speed,
    height_of_shanks,
    height_of_top,
    weighted_terms,
)
from policykd.envs.terrains.tracks import START
from policykd.errors import check_range

_TERMS = ("speed", "low", "effort")


@dataclass(frozen=True)
class Crouch(Task):
    """Walk under a ceiling that hangs over the whole track from 1 m ahead of the start.

    The ceiling follows the ground at the height of the standing robot's top minus ``lowering``. The episode ends if a
    link that must not touch the ground reaches the ceiling; the ceiling is not a solid body. The policy may lower the
    robot by bending knees or trunk, but kneeling ends the episode, too: otherwise reinforcement learning finds sliding
    on a shank. The reward of a step is that of :class:`Walk` with a lowness term instead of the uprightness term::

        low_weight * exp(-(max(0, top - ceiling) / low_width)^2)      top: height of the highest part above the ground

    Attributes:
        speed: commanded speed, m/s.
        lowering: how far the ceiling is below the top of the standing robot, m.
        kneeling: height of a shank's center above the ground below which the robot kneels, m; it is 0.03 m for a shank
            on the ground and 0.24 m for a standing one.
        low_width: excess height at which the lowness term falls to 1/e, m.
        speed_width: see :class:`Walk`.
        effort_width: see :class:`Walk`.
        speed_weight: weight of the speed term.
        low_weight: weight of the lowness term.
        effort_weight: weight of the effort term.

    Raises:
        ConfigError: if the weights do not sum to 1, a width is not positive, the lowering is outside [0, 2] m, or the
            kneeling outside [0, 1] m.
    """

    speed: float = 1.0
    lowering: float = 0.3
    kneeling: float = 0.1
    low_width: float = 0.15
    speed_width: float = 1.0
    effort_width: float = 0.5
    speed_weight: float = 0.7
    low_weight: float = 0.2
    effort_weight: float = 0.1

    def __post_init__(self) -> None:
        check_terms(self, _TERMS)
        check_range("lowering", self.lowering, 0.0, 2.0, "m")
        check_range("kneeling", self.kneeling, 0.0, 1.0, "m")

    @property
    @override
    def command(self) -> tuple[float, ...]:
        return (self.speed, self.lowering, 0.0)

    @override
    def reward(self, now: Situation) -> torch.Tensor:
        errors = [
            (forward_speed(now) - self.speed) / self.speed_width,
            (height_of_top(now) - self._ceiling(now)).clamp_min_(0.0) / self.low_width,
            effort(now, self.effort_width),
        ]
        return weighted_terms(errors, (self.speed_weight, self.low_weight, self.effort_weight))

    @override
    def forbidden(self, now: Situation) -> torch.Tensor:
        x, z = now.state.fall_points.unbind(2)
        above = ((x >= START) & (z - now.around.height(x) > self._ceiling(now))).any(dim=1)
        return above | (height_of_shanks(now) < self.kneeling).any(dim=1)

    def _ceiling(self, now: Situation) -> float:
        """Return the height above the ground that points along the links must not exceed, m."""
        return now.robot.stand_top - self.lowering
