"""Walking, running and walking backward: a commanded speed, upright, with little effort.

It reads the state that it is given and never the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from typing_extensions import override

from policykd.envs.robots import Robot
from policykd.envs.tasks.base import Situation, Start, Task
from policykd.envs.tasks.terms import check_terms, effort, forward_speed, weighted_terms
from policykd.errors import check_range

_TERMS = ("speed", "upright", "effort")


@dataclass(frozen=True)
class Walk(Task):
    """Move at a commanded speed, upright, with little effort.

    The reward of a step is a weighted sum of three terms in [0, 1] with weights that sum to 1, and 0 after a fall::

        speed_weight   * exp(-((v - speed) / speed_width)^2)      v: forward velocity of the center of mass
        upright_weight * exp(-(pitch / upright_width)^2)
        effort_weight  * exp(-mean(effort^2) / effort_width^2)    effort: torque over its limit

    Attributes:
        speed: commanded speed, m/s; negative for backward. PLAID's walking cycle moves at 1.535 m/s.
        speed_width: error at which the speed term falls to 1/e, m/s.
        upright_width: pitch at which the uprightness term falls to 1/e, rad.
        effort_width: root mean square of the effort at which the effort term falls to 1/e.
        speed_weight: weight of the speed term.
        upright_weight: weight of the uprightness term.
        effort_weight: weight of the effort term.
        least: share of the commanded distance that an episode must cover to count as a success.

    Raises:
        ConfigError: if the weights do not sum to 1 or a width is not positive.
    """

    speed: float = 1.54
    speed_width: float = 1.0
    upright_width: float = 0.5
    effort_width: float = 0.5
    speed_weight: float = 0.8
    upright_weight: float = 0.1
    effort_weight: float = 0.1
    least: float = 0.5

    def __post_init__(self) -> None:
        check_terms(self, _TERMS)
        check_range("least", self.least, 0.0, 1.0)

    @property
    @override
    def groups(self) -> tuple[str, ...]:
        return ("proprio", "terrain") if self == Walk() else super().groups  # the default walk needs no command

    @override
    def reward(self, now: Situation) -> torch.Tensor:
        errors = [
            (forward_speed(now) - self.speed) / self.speed_width,
            now.state.pitch / self.upright_width,
            effort(now, self.effort_width),
        ]
        return weighted_terms(errors, (self.speed_weight, self.upright_weight, self.effort_weight))

    @override
    def start(self, robot: Robot, start: Start) -> Start:
        if self.speed >= 0:
            return start
        qpos, qvel, clock = start  # backward walkers start with backward velocity
        return qpos, torch.cat([-qvel[:, :1], qvel[:, 1:]], dim=1), clock

    @override
    def least_distance(self, seconds: float) -> float:
        return self.least * abs(self.speed) * seconds
