"""The stable-baselines3 interface: a thin VecEnv over a batched environment, with one flat observation.

It copies arrays across and adds no behavior of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from typing_extensions import override

from policykd.envs.env_records import Step
from policykd.envs.make import AnyEnv


class Sb3VecEnv(VecEnv):
    """Adapter of a batched environment to stable-baselines3.

    Observations are the concatenated groups in the skill's order. Ended episodes report ``episode`` (``r``, ``l``,
    ``distance``), ``is_success``, ``terminal_observation`` and ``TimeLimit.truncated``. The infos of running episodes
    are one shared, empty dictionary: building one per simulation would cost more than the physics.

    Args:
        env: the batched environment.
        reward_scale: factor on the rewards for the learner; ``1 - gamma`` keeps returns in [0, 1]. Episode statistics
            are not scaled.
        stagger: see :meth:`BatchedEnv.reset`.
    """

    def __init__(self, env: AnyEnv, *, reward_scale: float = 1.0, stagger: bool = False) -> None:
        self.env, self._reward_scale, self._stagger = env, reward_scale, stagger
        size = sum(env.skill.group_sizes.values())
        observation = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        action = spaces.Box(-1.0, 1.0, (env.num_actions,), np.float32)
        self.render_mode = None
        super().__init__(env.num_envs, observation, action)
        self._nothing: dict[str, Any] = {}
        self._result: Step | None = None

    @override
    def reset(self) -> np.ndarray:
        if self._seeds[0] is not None:
            self.env.seed(self._seeds[0])
            self._reset_seeds()
        return torch.cat(list(self.env.reset(stagger=self._stagger).values()), dim=1).numpy()

    @override
    def step_async(self, actions: np.ndarray) -> None:
        self._result = self.env.step(torch.from_numpy(actions))

    @override
    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        assert self._result is not None, "step_wait without step_async"
        step, self._result = self._result, None
        dones = (step.terminated | step.truncated).numpy()
        rewards = (step.reward * self._reward_scale).numpy()
        return step.flat.numpy(), rewards, dones, self._infos(step)

    def _infos(self, step: Step) -> list[dict[str, Any]]:
        infos = [self._nothing] * self.num_envs
        ids = step.episodes.ids.tolist()
        if not ids:
            return infos
        last = step.final_flat.numpy()
        truncated, failed = step.truncated.tolist(), step.failed.tolist()
        e = step.episodes
        rows = zip(ids, last, e.total_reward.tolist(), e.length.tolist(), e.distance.tolist(), e.success.tolist(),
                   strict=True)  # fmt: skip
        for i, observation, total, length, distance, success in rows:
            infos[i] = {
                "terminal_observation": observation,
                "TimeLimit.truncated": truncated[i],
                "episode": {"r": total, "l": length, "distance": distance},
                "is_success": success,
                "simulation_failed": failed[i],
            }
        return infos

    def close(self) -> None:
        """Do nothing: the threads end with the engine."""

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """Return the attribute of this environment, once per requested simulation."""
        value = getattr(self, attr_name) if hasattr(self, attr_name) else getattr(self.env, attr_name)
        return [value] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        """Raise AttributeError: the simulations share their attributes."""
        raise AttributeError(f"simulations of a batch share their attributes; cannot set '{attr_name}' on some of them")

    def env_method(
        self, method_name: str, *args: Any, indices: int | Iterable[int] | None = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of the batched environment once and repeat its result for every requested simulation."""
        result = getattr(self.env, method_name)(*args, **kwargs)
        return [result] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: type, indices: int | Iterable[int] | None = None) -> list[bool]:
        """Return False for every requested simulation."""
        return [False] * len(list(self._get_indices(indices)))

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the random resets, starting with the next reset."""
        return super().seed(seed)
