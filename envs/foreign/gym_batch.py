"""A batch of gymnasium environments with the interface of :class:`~policykd.envs.batched_env.BatchedEnv`.

The environments run one after the other in this process. Policies act in [-1, 1], which spans the action space.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from policykd.envs.batched_env import EnvConfig, Step
from policykd.envs.foreign.skill import TASK_ID, GymSkill
from policykd.envs.foreign.spaces import flattened
from policykd.envs.stepping import Episodes
from policykd.errors import ConfigError, check_range

_SUCCESS = ("is_success", "success")
"""Entries of an environment's info that tell whether an episode succeeded."""


class GymBatch:
    """``num_envs`` copies of one gymnasium environment.

    Args:
        skills: one skill; several cannot share a batch.
        num_envs: number of copies.
        seed: seed of the first reset.
        config: taken for its interface; every copy has its own stream of initial states, whatever it says.
        pictures: whether :meth:`render` may be called.

    Attributes:
        skill: the skill.
        device: the CPU.
        failures: always 0; an environment that raises an error ends the run.
        level: always 1.

    Raises:
        ConfigError: for several skills, or num_envs < 1.
    """

    def __init__(
        self,
        skills: Sequence[GymSkill],
        num_envs: int,
        *,
        seed: int = 0,
        config: EnvConfig = EnvConfig(),
        pictures: bool = False,
    ) -> None:
        check_range("num_envs", num_envs, 1, 100_000)
        if len(skills) != 1:
            raise ConfigError(f"{len(skills)} gymnasium skills cannot share a batch; give one")
        self.skill, self.skills, self.config = skills[0], tuple(skills), config
        self.num_envs, self.robot, self.device = num_envs, skills[0].robot, torch.device("cpu")
        self.skill_index = torch.zeros(num_envs, dtype=torch.long)
        self.failures, self.level = 0, 1.0
        self._envs = self._make({"render_mode": "rgb_array"} if pictures else {})
        self._seed: int | None = seed
        self._low, self._high = (
            torch.tensor(b, dtype=torch.float64) for b in (skills[0].actions.low, skills[0].actions.high)
        )
        self._names = tuple(name for name, _ in self.skill.spaces.groups)
        self._total, self._length = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)

    def _make(self, options: Mapping[str, Any]) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
        skill = self.skill
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return gymnasium.make_vec(
                skill.env_id,
                num_envs=self.num_envs,
                vectorization_mode="sync",
                vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
                **{**json.loads(skill.kwargs), **options},
            )

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return self.robot.num_actions

    def seed(self, seed: int) -> None:
        """Use this seed at the next reset: copy i gets ``seed + i``."""
        self._seed = seed % 2**31

    def reset(self, *, stagger: bool = False) -> dict[str, torch.Tensor]:
        """Start new episodes in all copies; ``stagger`` has no effect, since episodes end at different times anyway.

        Returns:
            The observation groups, each (num_envs, size).
        """
        observation, _ = self._envs.reset(seed=self._seed)
        self._seed = None
        self._total[:], self._length[:] = 0.0, 0
        return {name: self._flat(observation)[:, span] for name, span in self.skill.columns.items()}

    def step(self, actions: torch.Tensor) -> Step:
        """Advance every copy by one action and reset those whose episode ended.

        Args:
            actions: (num_envs, num_actions); values outside [-1, 1] are clamped.
        """
        unit = actions.detach().double().clamp(-1.0, 1.0)
        own = (self._low + 0.5 * (unit + 1.0) * (self._high - self._low)).numpy()
        space = self._envs.single_action_space
        batch = own.reshape(self.num_envs, *(space.shape or ())).astype(space.dtype)
        observation, reward, terminated, truncated, info = self._envs.step(batch)
        self._total += reward
        self._length += 1
        ended = np.flatnonzero(terminated | truncated)
        final = self._final(info, ended)
        episodes = Episodes(
            ids=torch.from_numpy(ended),
            total_reward=torch.from_numpy(self._total[ended]),
            length=torch.from_numpy(self._length[ended]),
            distance=torch.zeros(len(ended)),
            success=self._success(info, ended),
        )
        self._total[ended], self._length[ended] = 0.0, 0
        return Step(
            self._flat(observation),
            torch.from_numpy(np.asarray(reward, dtype=np.float32)),
            torch.from_numpy(np.array(terminated)),
            torch.from_numpy(np.array(truncated)),
            torch.zeros(self.num_envs, dtype=torch.bool),
            final,
            episodes,
            self.skill.columns,
        )

    def render(self) -> list[np.ndarray]:
        """Return one picture (height, width, 3), uint8, of every copy; made with ``pictures`` only."""
        return [np.asarray(picture) for picture in self._envs.render() or ()]

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: an environment's state cannot be read, so that a resumed training begins new episodes."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raise ConfigError for anything but the empty record of :meth:`state_dict`."""
        if state:
            raise ConfigError(f"the record of {self.skill.id} holds {sorted(state)}; its state cannot be restored")

    def check_overflow(self) -> None:
        """Do nothing: gymnasium's environments drop no contacts that they could report."""

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()

    def _flat(self, observation: Any) -> torch.Tensor:
        """Return the groups that the skill reads, side by side."""
        return self._read(flattened(observation, self._names))

    def _read(self, flat: np.ndarray) -> torch.Tensor:
        skill = self.skill
        if skill.slices:
            spans = {name: (start, count) for name, start, count in skill.slices}
        else:
            starts = np.cumsum([0, *(size for _, size in skill.spaces.groups)])
            spans = {name: (int(s), n) for (name, n), s in zip(skill.spaces.groups, starts, strict=False)}
        absent = dict(skill.absent)
        parts = []
        for name in skill.groups:
            if name == TASK_ID:
                parts.append(self._task_id(len(flat)))
            elif name in absent:
                parts.append(np.zeros((len(flat), absent[name]), dtype=np.float32))
            else:
                parts.append(flat[:, spans[name][0] : sum(spans[name])])
        return torch.from_numpy(np.concatenate(parts, axis=1))

    def _task_id(self, count: int) -> np.ndarray:
        found = np.zeros((count, self.skill.tasks), dtype=np.float32)
        found[:, self.skill.task_number] = 1.0
        return found

    def _final(self, info: Mapping[str, Any], ended: np.ndarray) -> torch.Tensor:
        """Return (m, features) last observations of the episodes that ended."""
        if not len(ended):
            return torch.zeros(0, sum(self.skill.group_sizes.values()))
        rows = [info["final_obs"][i] for i in ended]
        if isinstance(rows[0], Mapping):
            return self._flat({name: np.stack([row[name] for row in rows]) for name in self._names})
        return self._flat(np.stack(rows))

    def _success(self, info: Mapping[str, Any], ended: np.ndarray) -> torch.Tensor:
        """Return (m,) success of the episodes that ended, where the environment tells it; otherwise True."""
        final = info.get("final_info", {})
        key = next((name for name in _SUCCESS if name in final), None)
        if key is None:
            return torch.ones(len(ended), dtype=torch.bool)
        return torch.from_numpy(np.asarray(final[key], dtype=float)[ended] > 0.5)
