"""Readings of the observation groups of n simulations: noise, scale, clip and history, from the groups' clean features.

Environments without readings have none of this, and pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from policykd.envs.observations import get_group
from policykd.envs.observations.reading import Reading
from policykd.envs.skills import Skill
from policykd.errors import ConfigError
from policykd.seeding import integer_seed


@dataclass(frozen=True)
class _Channel:
    """A group of the skill: how it is read, its columns among the clean features and in the observation."""

    reading: Reading
    clean: slice
    columns: slice


def has_readings(skill: Skill, noise: Sequence[tuple[str, float]] = ()) -> bool:
    """Return whether a skill's observations differ from the clean features of its groups."""
    return bool(noise) or any(get_group(name).reading is not None for name in skill.groups)


class Sensors:
    """Makes observations from clean features.

    Args:
        skill: the skill.
        num_sims: number of simulations.
        noise: half width of additional noise, by group of the skill.

    Attributes:
        skill: the skill with the clean groups that have to be computed.

    Raises:
        ConfigError: for noise on a group that the skill does not have.
    """

    def __init__(self, skill: Skill, num_sims: int, noise: Sequence[tuple[str, float]] = ()) -> None:
        extra = dict(noise)
        unknown = sorted(extra.keys() - set(skill.groups))
        if unknown:
            raise ConfigError(f"noise on {unknown[0]}, which the skill does not observe; it has {skill.groups}")
        readings = {name: get_group(name).reading or Reading(name) for name in skill.groups}
        self.skill = replace(skill, groups=tuple(dict.fromkeys(reading.base for reading in readings.values())))
        self._channels = [
            _Channel(
                replace(reading, noise=reading.noise + extra.get(name, 0.0)),
                self.skill.columns[reading.base],
                skill.columns[name],
            )
            for name, reading in readings.items()
        ]
        self._generator = torch.Generator()
        self._flat = torch.zeros(num_sims, sum(skill.group_sizes.values()))

    def seed(self, seed: int) -> None:
        """Restart the stream of the noise."""
        self._generator.manual_seed(integer_seed(seed, "sensors"))

    def step(self, clean: torch.Tensor) -> torch.Tensor:
        """Return the (n, features) observations after a step, from clean features (n, clean features)."""
        for channel in self._channels:
            self._push(channel, self._flat[:, channel.columns], self._read(channel, clean))
        return self._flat.clone()

    def start_episodes(self, ids: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        """Return the first observations (m, features) of episodes in the simulations ``ids`` (m,).

        Args:
            ids: the simulations.
            clean: (m, clean features) features of their initial states.
        """
        for channel in self._channels:
            read = self._read(channel, clean)
            self._flat[ids, channel.columns] = read.repeat(1, channel.reading.history)
        return self._flat[ids]

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Return the last observations and the state of the stream."""
        return {"generator": self._generator.get_state(), "flat": self._flat.clone()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a :meth:`snapshot`."""
        self._generator.set_state(snapshot["generator"])
        self._flat.copy_(snapshot["flat"])

    def _read(self, channel: _Channel, clean: torch.Tensor) -> torch.Tensor:
        reading, read = channel.reading, clean[:, channel.clean]
        if reading.noise:
            chance = torch.rand(read.shape, generator=self._generator)
            read = read + (2 * chance - 1) * reading.noise
        if reading.scale != 1.0:
            read = read * reading.scale
        return read if reading.clip is None else read.clamp(-reading.clip, reading.clip)

    @staticmethod
    def _push(channel: _Channel, memory: torch.Tensor, read: torch.Tensor) -> None:
        """Put a reading before the earlier ones, of which the oldest is forgotten."""
        size = read.shape[1]
        if channel.reading.history > 1:
            memory[:, size:] = memory[:, :-size].clone()
        memory[:, :size] = read
