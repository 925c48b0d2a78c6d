"""Simulations of several gymnasium environments as one batch, for reinforcement learning on all of them at once.

It puts batches of one environment each side by side, with the groups that all of them offer; it knows no policies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch

from policykd.envs.env_records import EnvConfig, Episodes, Step
from policykd.envs.foreign.gym_batch import GymBatch
from policykd.envs.foreign.skill import GymSkill, shared_actions
from policykd.envs.skills import common_contract
from policykd.errors import ConfigError, check_range
from policykd.seeding import integer_seed


class JointBatch:
    """``num_envs`` environments; number i has skill ``skills[i % len(skills)]``.

    Args:
        skills: the skills, which share their number of actions and their groups; see
            :func:`policykd.envs.foreign.skill.together`.
        num_envs: number of environments, at least one per skill.
        seed: seed of the first reset.
        config: as for :class:`GymBatch`.

    Attributes:
        skill: the skill with the longest episodes.
        skill_index: (num_envs,) index into ``skills``.
        device: the CPU.
        failures: always 0.
        level: always 1.

    Raises:
        ConfigError: for fewer environments than skills.
        ContractError: if the skills differ in actions or groups.
    """

    def __init__(
        self, skills: Sequence[GymSkill], num_envs: int, *, seed: int = 0, config: EnvConfig = EnvConfig()
    ) -> None:
        check_range("num_envs", num_envs, len(skills), 100_000)
        common_contract(skills)
        self.skills, self.num_envs, self.config = tuple(skills), num_envs, config
        self.skill = max(skills, key=lambda skill: skill.episode_steps)
        self.robot, self.device = shared_actions(skills), torch.device("cpu")
        self.skill_index = torch.arange(num_envs) % len(skills)
        self.failures, self.level = 0, 1.0
        self._rows = [torch.nonzero(self.skill_index == i).squeeze(1) for i in range(len(skills))]
        self._batches = [
            GymBatch([skill], len(rows), config=config) for skill, rows in zip(skills, self._rows, strict=True)
        ]
        self.seed(seed)

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return self.robot.num_actions

    def seed(self, seed: int) -> None:
        """Use this seed at the next reset, with another stream for every skill."""
        for i, batch in enumerate(self._batches):
            batch.seed(integer_seed(seed, "skill of a batch", i))

    def reset(self, *, stagger: bool = False) -> dict[str, torch.Tensor]:
        """Start new episodes; see :meth:`GymBatch.reset`."""
        parts = [batch.reset(stagger=stagger) for batch in self._batches]
        return {name: self._joined([part[name] for part in parts]) for name in self.skill.groups}

    def step(self, actions: torch.Tensor) -> Step:
        """Advance every environment by one action; see :meth:`GymBatch.step`."""
        parts = [batch.step(actions[rows]) for batch, rows in zip(self._batches, self._rows, strict=True)]
        names = ("flat", "reward", "terminated", "truncated", "failed")
        joined = {name: self._joined([getattr(part, name) for part in parts]) for name in names}
        ids = [rows[part.episodes.ids] for part, rows in zip(parts, self._rows, strict=True)]
        episodes = {f.name: torch.cat([getattr(part.episodes, f.name) for part in parts]) for f in fields(Episodes)}
        return Step(
            **joined,
            final_flat=torch.cat([part.final_flat for part in parts]),
            episodes=Episodes(**{**episodes, "ids": torch.cat(ids)}),
            columns=self.skill.columns,
        )

    def rest(self, ids: torch.Tensor) -> None:
        """Stop some environments until the next reset; see :meth:`GymBatch.rest`."""
        for batch, rows in zip(self._batches, self._rows, strict=True):
            batch.rest(torch.nonzero(torch.isin(rows, ids)).squeeze(1))

    def state_dict(self) -> dict[str, Any]:
        """Return nothing; see :meth:`GymBatch.state_dict`."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raise ConfigError for anything but the empty record of :meth:`state_dict`."""
        if state:
            raise ConfigError(f"the record of a batch holds {sorted(state)}; its state cannot be restored")

    def check_overflow(self) -> None:
        """Do nothing; see :meth:`GymBatch.check_overflow`."""

    def close(self) -> None:
        """Close the environments."""
        for batch in self._batches:
            batch.close()

    def _joined(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return (num_envs, ...) from the rows of every skill."""
        whole = parts[0].new_empty((self.num_envs, *parts[0].shape[1:]))
        for rows, part in zip(self._rows, parts, strict=True):
            whole[rows] = part
        return whole
