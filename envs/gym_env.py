"""The gymnasium interface of one simulation, with rendering.

It translates calls and arrays; stepping and resets are the batched environment's.
"""

from __future__ import annotations

from typing import Any, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from policykd.envs.batched_env import BatchedEnv
from policykd.envs.env_records import EnvConfig, Observations
from policykd.envs.gym_vector_env import Arrays, skill_spaces
from policykd.envs.rendering import SceneRenderer, build_scene
from policykd.envs.skills import Skill
from policykd.errors import UnknownNameError


class SkillEnv(gymnasium.Env[Arrays, np.ndarray]):
    """A gymnasium environment of one simulation of a skill.

    Equal seeds give equal episodes, including the tracks. The info of an episode's last step has ``distance`` (m),
    ``success`` and ``simulation_failed``. For many simulations use
    :class:`~policykd.envs.gym_vector_env.SkillVectorEnv`, which is far faster than many of these environments.

    Args:
        skill: the skill.
        seed: seed of the tracks.
        config: tracks and initial states.
        render_mode: ``rgb_array``, or None for no rendering.
        width: width of an image, pixels.
        height: height of an image, pixels.

    Raises:
        UnknownNameError: for an unknown render mode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 gymnasium's own name, per instance

    def __init__(
        self,
        skill: Skill,
        *,
        seed: int = 0,
        config: EnvConfig = EnvConfig(),
        render_mode: str | None = None,
        width: int = 640,
        height: int = 360,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise UnknownNameError("render mode", render_mode, self.metadata["render_modes"])
        self.render_mode, self._size = render_mode, (width, height)
        self.env = BatchedEnv([skill], 1, seed=seed, config=config, threads=1)
        self.metadata = {**self.metadata, "render_fps": round(1 / self.env.robot.control_dt)}
        observations, actions = skill_spaces(skill)
        self.observation_space, self.action_space = cast("spaces.Space[Arrays]", observations), actions
        self._running = False
        self._renderer: SceneRenderer | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        """Start a new episode.

        Args:
            seed: seed of this episode and the following ones; None continues the random stream, which is first seeded
                with entropy of the operating system.
            options: unused.

        Returns:
            Observation groups, each (size,) float32, and an empty info.
        """
        fresh = self._np_random is None
        super().reset(seed=seed)
        if seed is not None or fresh:
            self.env.seed(int(self.np_random.integers(2**31)))
        self._running = True
        self._forget_scene()
        return _row(self.env.reset()), {}

    def step(self, action: np.ndarray) -> tuple[Arrays, float, bool, bool, dict[str, Any]]:
        """Advance by one action.

        Args:
            action: (joints,) in [-1, 1]; values outside are clamped.

        Returns:
            Observation groups, each (size,) float32; reward in [0, 1]; whether the robot fell or its simulation
            failed; whether the episode ran out of steps; info.

        Raises:
            ResetNeeded: before the first reset, and after the end of an episode.
        """
        if not self._running:
            raise ResetNeeded("no episode is running; call reset() before step()")
        step = self.env.step(torch.from_numpy(np.asarray(action))[None], restart=False)
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
        if not terminated and not truncated:
            return _row(step.observations), float(step.reward[0]), False, False, {}
        self._running = False
        info = {
            "distance": float(step.episodes.distance[0]),
            "success": bool(step.episodes.success[0]),
            "simulation_failed": bool(step.failed[0]),
        }
        return _row(step.final_observations), float(step.reward[0]), terminated, truncated, info

    def render(self) -> np.ndarray | None:
        """Return a (height, width, 3) uint8 image of the current state, or None without a render mode.

        Raises:
            MissingDependencyError: naming the Debian packages, if no OpenGL library can be used.
        """
        if self.render_mode is None:
            return None
        if self._renderer is None:
            self._renderer = SceneRenderer(build_scene(self.env.robot, self.env.track(0)), *self._size)
        return self._renderer.frame(self.env.engine.field("qpos")[0].numpy(force=True))

    def close(self) -> None:
        """Release the OpenGL context, if there is one."""
        self._forget_scene()

    def _forget_scene(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _row(observations: Observations) -> Arrays:
    return {name: value[0].numpy(force=True) for name, value in observations.items()}
