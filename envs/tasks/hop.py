"""Hopping forward with the feet together, as in a sack race.

It reads the state that it is given and never the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from typing_extensions import override

from policykd.envs.tasks.base import Situation, Task
from policykd.envs.tasks.terms import (
    check_terms,
    clearance,
    effort,
    feet_apart,
    feet_speed_apart,
    forward_speed,
    weighted_terms,
)
from policykd.errors import check_range

_TERMS = ("speed", "together", "air", "effort")


@dataclass(frozen=True)
class Hop(Task):
    """Hop forward with the feet together.

    The episode ends if the feet are farther apart than the width of the sack. The reward of a step is a weighted sum of
    four terms in [0, 1] with weights that sum to 1, and 0 after a fall: speed and effort of :class:`Walk`, and::

        together_weight * exp(-(apart / together_width)^2 - (against / against_width)^2)
        air_weight      * exp(-(max(0, air_height - clearance) / air_width)^2)

    ``apart`` and ``against`` are the distance and the speed between the centers of the feet, and ``clearance`` is the
    height of the lowest end of the soles. Without relative speed and clearance, quick shuffling in the sack would be
    rewarded as much as hopping, and reinforcement learning would find it.

    Attributes:
        speed: commanded speed, m/s.
        sack: largest distance between the centers of the feet, m.
        together_width: distance between the feet at which the together term falls to 1/e, m.
        against_width: relative speed of the feet at which the together term falls to 1/e, m/s.
        air_height: clearance for the full air term, m.
        air_width: lack of clearance at which the air term falls to 1/e, m.
        speed_width: see :class:`Walk`.
        effort_width: see :class:`Walk`.
        speed_weight: weight of the speed term.
        together_weight: weight of the together term.
        air_weight: weight of the air term.
        effort_weight: weight of the effort term.

    Raises:
        ConfigError: if the weights do not sum to 1, a width is not positive, or the sack is outside [0, 2] m.
    """

    speed: float = 1.0
    sack: float = 0.3
    together_width: float = 0.1
    against_width: float = 1.0
    air_height: float = 0.1
    air_width: float = 0.06
    speed_width: float = 1.0
    effort_width: float = 0.5
    speed_weight: float = 0.4
    together_weight: float = 0.25
    air_weight: float = 0.25
    effort_weight: float = 0.1

    def __post_init__(self) -> None:
        check_terms(self, _TERMS)
        check_range("sack", self.sack, 0.0, 2.0, "m")
        check_range("air_height", self.air_height, 0.0, 2.0, "m")
        check_range("against_width", self.against_width, 1e-6, float("inf"))

    @property
    @override
    def command(self) -> tuple[float, ...]:
        return (self.speed, 0.0, 1.0)

    @override
    def reward(self, now: Situation) -> torch.Tensor:
        errors = [
            (forward_speed(now) - self.speed) / self.speed_width,
            torch.hypot(feet_apart(now) / self.together_width, feet_speed_apart(now) / self.against_width),
            (self.air_height - clearance(now)).clamp_min_(0.0) / self.air_width,
            effort(now, self.effort_width),
        ]
        return weighted_terms(errors, [getattr(self, f"{term}_weight") for term in _TERMS])

    @override
    def forbidden(self, now: Situation) -> torch.Tensor:
        return feet_apart(now) > self.sack
