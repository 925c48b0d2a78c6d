"""The gymnasium interface of a batched environment: a native VectorEnv without a Python loop over the simulations.

It translates calls and arrays; stepping and resets are the batched environment's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from policykd.envs.batched_env import BatchedEnv
from policykd.envs.env_records import Observations, Step
from policykd.envs.skills import Skill

Arrays = dict[str, np.ndarray]


def skill_spaces(skill: Skill) -> tuple[spaces.Dict, spaces.Box]:
    """Return observation and action space of one simulation of a skill.

    Returns:
        A Dict of the skill's observation groups, float32 and unbounded, and a Box with one number in [-1, 1] per joint.
    """
    groups: dict[str, spaces.Space[Any]] = {
        name: spaces.Box(-np.inf, np.inf, (size,), np.float32) for name, size in skill.group_sizes.items()
    }
    return spaces.Dict(groups), spaces.Box(-1.0, 1.0, (skill.robot.num_actions,), np.float32)


class SkillVectorEnv(VectorEnv[Arrays, np.ndarray, np.ndarray]):
    """A gymnasium VectorEnv of many simulations of one or several skills.

    A simulation whose episode ends is reset in the same step (``AutoresetMode.SAME_STEP``). The last observation and
    the statistics of the episode are in the step's infos, laid out as in gymnasium's ``SyncVectorEnv``: ``final_obs``
    is an object array of dictionaries, ``final_info`` has arrays over all simulations, and a key with a leading
    underscore is the mask of simulations to which an entry applies. ``final_info`` has ``distance`` (m), ``success``,
    ``simulation_failed`` and ``episode`` with ``r`` (sum of rewards), ``l`` (steps), ``distance`` and ``success``.
    Infos are empty in steps in which no episode ended. gymnasium's ``RecordEpisodeStatistics`` can wrap this class.

    Args:
        env: the batched environment.
    """

    def __init__(self, env: BatchedEnv) -> None:
        super().__init__()
        self.env, self.num_envs = env, env.num_envs
        self.metadata = {
            "autoreset_mode": AutoresetMode.SAME_STEP,
            "render_modes": [],
            "render_fps": round(1 / env.robot.control_dt),
        }
        self.single_observation_space, self.single_action_space = skill_spaces(env.skill)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._columns = env.skill.columns

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        """Start new episodes in all simulations.

        Args:
            seed: seed of this reset and all later ones; None continues the random stream, which is first seeded with
                entropy of the operating system.
            options: ``{"stagger": True}`` sets the elapsed steps of the episodes to random values, so that they do not
                all end together.

        Returns:
            Observation groups, each (num_envs, size) float32, and empty infos.
        """
        fresh = self._np_random is None
        super().reset(seed=seed)
        if seed is not None or fresh:
            self.env.seed(int(self.np_random.integers(2**31)))
        return _arrays(self.env.reset(stagger=bool((options or {}).get("stagger", False)))), {}

    def step(self, actions: np.ndarray) -> tuple[Arrays, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance every simulation by one action.

        Args:
            actions: (num_envs, joints) in [-1, 1]; values outside are clamped.

        Returns:
            Observation groups, each (num_envs, size) float32; (num_envs,) rewards in [0, 1], float32; (num_envs,)
            terminated; (num_envs,) truncated; infos. The arrays are not reused by later steps.
        """
        step = self.env.step(torch.from_numpy(np.asarray(actions)))
        infos = self._infos(step) if len(step.episodes.ids) else {}
        return (
            self._split(_array(step.flat)),
            _array(step.reward),
            _array(step.terminated),
            _array(step.truncated),
            infos,
        )

    def _infos(self, step: Step) -> dict[str, Any]:
        ended, n = step.episodes, self.num_envs
        ids = _array(ended.ids)
        mask, final = np.zeros(n, dtype=np.bool_), np.full(n, None, dtype=object)
        mask[ids] = True
        for i, row in zip(ids.tolist(), _array(step.final_flat), strict=True):
            final[i] = {name: row[columns] for name, columns in self._columns.items()}

        def spread(value: torch.Tensor) -> np.ndarray:
            values = _array(value)
            whole = np.zeros(n, dtype=values.dtype)
            whole[ids] = values
            return whole

        distance, success = spread(ended.distance), spread(ended.success)
        episode = {"r": spread(ended.total_reward), "l": spread(ended.length), "distance": distance, "success": success}
        info = {
            "distance": distance,
            "success": success,
            "simulation_failed": _array(step.failed),
            "episode": _masked(episode, mask),
        }
        return _masked({"final_obs": final, "final_info": _masked(info, mask)}, mask)

    def _split(self, flat: np.ndarray) -> Arrays:
        return {name: flat[:, columns] for name, columns in self._columns.items()}


def _masked(entries: dict[str, Any], mask: np.ndarray) -> dict[str, Any]:
    """Return the entries, each followed by the mask of simulations to which it applies; all share one mask array."""
    masked: dict[str, Any] = {}
    for name, value in entries.items():
        masked[name], masked[f"_{name}"] = value, mask
    return masked


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy() if tensor.is_cpu else tensor.numpy(force=True)  # force=True is slow on the CPU


def _arrays(observations: Observations) -> Arrays:
    return {name: _array(value) for name, value in observations.items()}
