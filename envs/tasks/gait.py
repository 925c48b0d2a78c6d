"""Gaits of robots in space: a rhythm of the feet and a height of the base, as numbers that a policy can read.

It describes only; the backends compute phases, and terms of the reward compare them with the feet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policykd.errors import check_range


@dataclass(frozen=True)
class Gait:
    """When each foot should stand, and how high the base should be.

    A foot's phase is ``frequency * clock + offset``, in cycles; it should stand while the phase's fraction is below
    ``duty`` and be in the air otherwise. The offset is ``front`` for feet ahead of the base plus ``left`` for feet on
    its left: a trot has half a cycle for both, so that diagonal feet move together; a pace for the left, a bound for
    the front. The parameters follow Margolis and Agrawal, Walk These Ways, 2022, who train one policy for all of them.

    Attributes:
        front: lead of the front feet, cycles.
        left: lead of the left feet, cycles.
        frequency: cycles per second.
        duty: share of a cycle for which a foot stands.
        lowering: distance of the base below its standing height, leg lengths.

    Raises:
        ConfigError: for a number out of range.
    """

    front: float = 0.5
    left: float = 0.5
    frequency: float = 2.0
    duty: float = 0.5
    lowering: float = 0.0

    def __post_init__(self) -> None:
        for name in ("front", "left"):
            check_range(name, getattr(self, name), 0.0, 1.0, "cycles")
        check_range("frequency", self.frequency, 0.1, 10.0, "Hz")
        check_range("duty", self.duty, 0.05, 0.95)
        check_range("lowering", self.lowering, -0.5, 0.8, "leg lengths")

    def offsets(self, places: np.ndarray) -> np.ndarray:
        """Return the (f,) offsets of feet at ``places`` (f, 2) ahead of the base and to its left, m, in cycles."""
        return (self.front * (places[:, 0] > 0) + self.left * (places[:, 1] > 0)) % 1.0


TROT, PACE, BOUND = Gait(), Gait(front=0.0), Gait(left=0.0)
CROUCH = Gait(lowering=0.3)
