"""Kernels of a CUDA device, compiled before they are needed: a step of every skill with every number of worlds.

mujoco_warp compiles kernels for a model, its room for contacts and its number of worlds at their first use; Warp keeps
them in its cache. It simulates a step and trains nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from policykd.agents.training.config import FINAL_EPISODES, TrainConfig
from policykd.agents.training.device_settings import DEVICE
from policykd.envs.devices import choose_device
from policykd.envs.masked_env import MaskedEnv
from policykd.envs.skills import get_skill
from policykd.envs.world_counts import round_worlds

WORLDS = tuple(sorted({round_worlds(n) for n in (TrainConfig().validation_episodes, FINAL_EPISODES, DEVICE.worlds)}))
"""Numbers of worlds of a validation, of the last validation, and of a training with the device's settings."""


@dataclass(frozen=True)
class Warmed:
    """A skill whose kernels are in the cache.

    Attributes:
        skill: id of the skill.
        worlds: number of worlds.
        seconds: time of its first step, with what had to be compiled, s.
    """

    skill: str
    worlds: int
    seconds: float


def warm_kernels(skills: Sequence[str], device: str = "cuda", worlds: Sequence[int] = WORLDS) -> Iterator[Warmed]:
    """Compile the kernels of skills, one number of worlds after the other.

    Args:
        skills: ids of the skills.
        device: the device.
        worlds: numbers of worlds.

    Yields:
        Every skill and number of worlds when it is done.

    Raises:
        UnknownNameError: for an unknown skill or device.
        MissingDependencyError: for a device that cannot be used here.
    """
    chosen, known = choose_device(device), [get_skill(name) for name in skills]
    for skill in known:
        for count in worlds:
            began = time.perf_counter()
            env = MaskedEnv([skill], count, device=str(chosen))
            env.reset()
            env.step_masked(torch.zeros(count, env.num_actions, device=env.device))
            if chosen.type == "cuda":
                torch.cuda.synchronize(chosen)
            yield Warmed(skill.id, count, time.perf_counter() - began)
