"""Hopping forward with the feet together, as in a sack race."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from policykd.envs.tasks.base import Situation, Task
from policykd.envs.tasks.terms import check_terms, effort, feet_apart, forward_speed, weighted_terms
from policykd.errors import check_range

_TERMS = ("speed", "together", "upright", "effort")


@dataclass(frozen=True)
class Hop(Task):
    """Hop forward: the feet stay together, so that the only way ahead is through the air.

    Feet farther apart than the sack is wide end the episode. The reward of a step is a weighted sum of four terms in
    [0, 1] with weights that sum to 1, and 0 after a fall: those of :class:`Walk`, and::

        together_weight * exp(-(apart / together_width)^2)       apart: distance between the centres of the feet

    Attributes:
        speed: commanded speed, m/s.
        sack: largest distance between the centres of the feet, m.
        together_width: distance between them at which the term falls to 1/e, m.
        speed_width: see :class:`Walk`.
        upright_width: see :class:`Walk`.
        effort_width: see :class:`Walk`.
        speed_weight: weight of the speed term.
        together_weight: weight of the term of the feet.
        upright_weight: weight of the uprightness term.
        effort_weight: weight of the effort term.

    Raises:
        ConfigError: if the weights do not sum to 1, a width is not positive, or the sack is outside [0, 2] m.
    """

    speed: float = 1.0
    sack: float = 0.3
    together_width: float = 0.1
    speed_width: float = 1.0
    upright_width: float = 0.5
    effort_width: float = 0.5
    speed_weight: float = 0.6
    together_weight: float = 0.2
    upright_weight: float = 0.1
    effort_weight: float = 0.1

    def __post_init__(self) -> None:
        check_terms(self, _TERMS)
        check_range("sack", self.sack, 0.0, 2.0, "m")

    @property
    def command(self) -> tuple[float, ...]:
        """See :attr:`Task.command`."""
        return (self.speed, 0.0, 1.0)

    def reward(self, now: Situation) -> torch.Tensor:
        """See :meth:`Task.reward`."""
        errors = [
            (forward_speed(now) - self.speed) / self.speed_width,
            feet_apart(now) / self.together_width,
            now.state.pitch / self.upright_width,
            effort(now, self.effort_width),
        ]
        return weighted_terms(errors, [getattr(self, f"{term}_weight") for term in _TERMS])

    def forbidden(self, now: Situation) -> torch.Tensor:
        """See :meth:`Task.forbidden`."""
        return feet_apart(now) > self.sack
