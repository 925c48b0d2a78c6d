"""Readings: observation groups as a sensor delivers them, with scale, clip, noise and history.

A reading is a group of its own, so that a teacher can read the clean group while its student reads the noisy one. The
environment computes the base group once and makes the readings from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from policykd.envs.observations.group import Mirrored, ObservationGroup, Surroundings
from policykd.envs.robots import Robot
from policykd.errors import ConfigError, ContractError, check_range


@dataclass(frozen=True)
class Reading:
    """How a group is read from a base group; in this order: noise, scale, clip, history.

    Attributes:
        base: name of the group that is read.
        noise: half width of the uniform noise, in the units of the base group; drawn for every feature and step.
        scale: factor of the features.
        clip: largest magnitude after scaling; None for no limit.
        history: number of the last readings, the newest first; an episode begins with copies of its first one.

    Raises:
        ConfigError: for a number out of range.
    """

    base: str
    noise: float = 0.0
    scale: float = 1.0
    clip: float | None = None
    history: int = 1

    def __post_init__(self) -> None:
        check_range(f"noise of {self.base}", self.noise, 0.0, 1e6)
        check_range(f"history of {self.base}", self.history, 1, 1000)
        if self.scale == 0.0:
            raise ConfigError(f"scale of {self.base} is 0; the reading would say nothing")
        if self.clip is not None:
            check_range(f"clip of {self.base}", self.clip, 1e-9, 1e9)


def reading_of(base: ObservationGroup, name: str, **settings: Any) -> ObservationGroup:
    """Return a group that reads another one; register it before a skill refers to it.

    Args:
        base: the registered group that is read.
        name: name of the new group.
        settings: fields of :class:`Reading` other than ``base``.

    Raises:
        ConfigError: for a setting out of range, or a base that is a reading itself.
    """
    if base.reading is not None:
        raise ConfigError(f"{base.name} is a reading itself; read {base.reading.base}")
    reading = Reading(base.name, **settings)
    count, told, named = reading.history, base.mirrored, base.parts

    def mirrored(robot: Robot) -> Mirrored:
        assert told is not None
        image = told(robot)
        size = len(image.order)
        order = [i + block * size for block in range(count) for i in image.order]
        return Mirrored(order, list(image.signs) * count)

    def parts(robot: Robot) -> list[str]:
        assert named is not None
        return named(robot) * count

    return ObservationGroup(
        name,
        lambda robot: count * base.size(robot),
        f"the last {count} readings of: {base.units}" if count > 1 else f"reading of: {base.units}",
        _not_computed,
        None if told is None else mirrored,
        base.lead,
        base.spatial,
        base.family,
        reading,
        base.spacing,
        None if named is None else parts,
    )


def _not_computed(state: Any, around: Surroundings) -> torch.Tensor:
    raise ContractError("readings with noise or history are made by environments on the CPU; use device cpu")
