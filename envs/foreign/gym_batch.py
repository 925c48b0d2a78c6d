"""A batch of gymnasium environments with the interface of :class:`~policykd.envs.batched_env.BatchedEnv`.

The environments run one after the other in this process. Policies act in [-1, 1], which spans the action space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch

from policykd.envs.env_records import EnvConfig, Episodes, Step
from policykd.envs.foreign.skill import TASK_ID, GymSkill
from policykd.envs.foreign.spaces import make_one
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
        if len(skills) != 1:
            raise ConfigError(f"{len(skills)} gymnasium skills cannot share a batch; give one")
        self.skill, self.skills, self.config = skills[0], tuple(skills), config
        self.robot, self.device = skills[0].robot, torch.device("cpu")
        self.failures, self.level = 0, 1.0
        self._options = {"render_mode": "rgb_array"} if pictures else {}
        self._made: list[gymnasium.Env[Any, Any]] = []
        self._seed: int | None = seed
        self._low, self._high = (
            torch.tensor(b, dtype=torch.float64) for b in (skills[0].actions.low, skills[0].actions.high)
        )
        self._names = tuple(name for name, _ in self.skill.spaces.groups)
        self.resize(num_envs)

    def resize(self, num_envs: int) -> None:
        """Change the number of copies; the next reset must follow a new seed. Surplus ones are kept for later growth.

        Making a copy may take as long as hundreds of its steps: 0.35 s where a model is parsed from meshes.
        """
        check_range("num_envs", num_envs, 1, 100_000)
        options = {"disable_env_checker": True, **self._options}  # the checks take a fifth of a fast environment's step
        while len(self._made) < num_envs:
            self._made.append(make_one(self.skill.env_id, self.skill.kwargs, **options))
        self.num_envs, self._envs = num_envs, self._made[:num_envs]
        self.skill_index = torch.zeros(num_envs, dtype=torch.long)
        self._total, self._length = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)
        self._resting = np.zeros(num_envs, dtype=bool)
        self._now = np.zeros((num_envs, sum(size for _, size in self.skill.spaces.groups)), dtype=np.float32)

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
        for i, env in enumerate(self._envs):
            self._now[i] = self._row(env.reset(seed=None if self._seed is None else self._seed + i)[0])
        self._seed = None
        self._total[:], self._length[:], self._resting[:] = 0.0, 0, False
        flat = self._read(self._now)
        return {name: flat[:, span] for name, span in self.skill.columns.items()}

    def step(self, actions: torch.Tensor) -> Step:
        """Advance every copy by one action and reset those whose episode ended.

        Args:
            actions: (num_envs, num_actions); values outside [-1, 1] are clamped. Of discrete actions, the logits of all
                choices; the largest of each action is taken.
        """
        unit = actions.detach().double().clamp(-1.0, 1.0)
        own = (self._low + 0.5 * (unit + 1.0) * (self._high - self._low)).numpy()
        chosen = self._chosen(actions) if self.skill.actions.choices else None
        rewards, terminated, truncated = np.zeros(self.num_envs), *np.zeros((2, self.num_envs), dtype=bool)
        final, success = [], []
        for i in np.flatnonzero(~self._resting):
            env, space = self._envs[i], self._envs[i].action_space
            action = chosen[i] if chosen is not None else own[i].reshape(space.shape or ()).astype(space.dtype)
            observation, rewards[i], terminated[i], truncated[i], info = env.step(action)
            if terminated[i] or truncated[i]:
                final.append(self._row(observation))
                success.append(_success(info))
                observation, _ = env.reset()
            self._now[i] = self._row(observation)
        self._total += rewards
        self._length += ~self._resting
        ended = np.flatnonzero(terminated | truncated)
        episodes = Episodes(
            ids=torch.from_numpy(ended),
            total_reward=torch.from_numpy(self._total[ended]),
            length=torch.from_numpy(self._length[ended]),
            distance=torch.zeros(len(ended)),
            success=torch.tensor(success, dtype=torch.bool),
        )
        self._total[ended], self._length[ended] = 0.0, 0
        size = sum(self.skill.group_sizes.values())
        return Step(
            self._read(self._now),
            torch.from_numpy(rewards.astype(np.float32)),
            torch.from_numpy(terminated),
            torch.from_numpy(truncated),
            torch.zeros(self.num_envs, dtype=torch.bool),
            self._read(np.stack(final)) if final else torch.zeros(0, size),
            episodes,
            self.skill.columns,
        )

    def _chosen(self, logits: torch.Tensor) -> list[Any]:
        """Return the discrete actions of all copies: numbers of Discrete, arrays of MultiDiscrete."""
        parts = logits.detach().split(list(self.skill.actions.choices), dim=1)
        numbers = torch.stack([part.argmax(dim=1) for part in parts], dim=1).numpy()
        single = isinstance(self._envs[0].action_space, gymnasium.spaces.Discrete)
        return [int(row[0]) if single else row for row in numbers]

    def rest(self, ids: torch.Tensor) -> None:
        """Stop some copies until the next reset: their rows stay as they are, and nothing is simulated for them."""
        self._resting[ids.numpy()] = True

    def render(self) -> list[np.ndarray]:
        """Return one picture (height, width, 3), uint8, of every copy; made with ``pictures`` only."""
        return [np.asarray(env.render()) for env in self._envs]

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
        for env in self._made:
            env.close()

    def _row(self, observation: Any) -> np.ndarray:
        """Return (features,) all that the environment observes, float32."""
        parts = [observation[name] for name in self._names] if isinstance(observation, Mapping) else [observation]
        return np.concatenate([np.asarray(part, dtype=np.float32).reshape(-1) for part in parts])

    def _read(self, flat: np.ndarray) -> torch.Tensor:
        """Return the groups that the skill reads, side by side."""
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


def _success(info: Mapping[str, Any]) -> bool:
    """Return the success that an environment reports at the end of an episode; True where it does not report any."""
    key = next((name for name in _SUCCESS if name in info), None)
    return key is None or float(info[key]) > 0.5
