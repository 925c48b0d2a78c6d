"""Pictures of a policy in a gymnasium environment, drawn by the environment itself.

It simulates one episode and writes no file.
"""

from __future__ import annotations

import ctypes
import math
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch

from policykd.agents.acting import Acting
from policykd.agents.policy import Policy
from policykd.envs.foreign.gym_batch import GymBatch
from policykd.envs.foreign.skill import GymSkill
from policykd.envs.offscreen import prefer_egl
from policykd.errors import MissingDependencyError, check_range
from policykd.seeding import integer_seed


@dataclass(frozen=True, eq=False)
class EnvironmentRecording:
    """One filmed episode.

    Attributes:
        pictures: (t, height, width, 3) uint8, one per step, the start included; height and width are even.
        control_dt: time between them, s.
        fell: whether the environment ended the episode.
    """

    pictures: np.ndarray
    control_dt: float
    fell: bool


@torch.no_grad()
def record_environment(policy: Policy, skill: GymSkill, *, seed: int = 0, seconds: float = 8.0) -> EnvironmentRecording:
    """Film one episode of a policy's mean actions.

    Args:
        policy: the policy.
        skill: the skill.
        seed: seed of the initial state.
        seconds: length, s; the end of the episode ends it earlier. Environments that do not say how long a step takes
            count as one step per second, and are filmed as 30 steps per second.

    Raises:
        ContractError: if the skill lacks an observation group that the policy reads.
        ConfigError: for a length outside [0.1, 600] s.
        MissingDependencyError: if the environment cannot draw itself here.
    """
    check_range("seconds", seconds, 0.1, 600.0, "s")
    dt = skill.robot.control_dt if skill.robot.control_dt < 1.0 else 1.0 / 30.0
    steps = math.ceil(seconds / dt)
    # Without EGL, other environments have pictures still.
    with suppress(ImportError, AttributeError, ctypes.ArgumentError, OSError, RuntimeError):
        prefer_egl()
    env = GymBatch([skill], 1, seed=integer_seed(seed, "film"), pictures=True)
    acting, flat = Acting(policy), torch.cat(list(env.reset().values()), dim=-1)
    pictures, ended, fell = [_picture(env)], False, False
    for _ in range(steps):
        step = env.step(acting(policy.select(flat, skill.columns)))
        flat, fell = step.flat, bool(step.terminated[0])
        ended = fell or bool(step.truncated[0])
        if ended:  # the environment is in the next episode now
            break
        pictures.append(_picture(env))
    env.close()
    return EnvironmentRecording(np.stack(pictures), dt, fell)


def _picture(env: GymBatch) -> np.ndarray:
    """Return the environment's picture, cut to even sides."""
    try:
        picture = np.asarray(env.render()[0])
    except Exception as error:  # gymnasium, pygame and MuJoCo have errors of their own
        raise MissingDependencyError(
            f"{env.skill.id} cannot draw its pictures; a package or an OpenGL library may be missing: {error}"
        ) from error
    height, width = (side - side % 2 for side in picture.shape[:2])
    return picture[:height, :width]
