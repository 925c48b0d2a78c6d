"""Settings of training on a CUDA device, derived from those of the CPU; see docs/gpu.md for how they were chosen.

A device needs a thousand simulations before its steps cost less than the host's launches, and an update of a policy
may change it only so much: what a run needs is a number of updates. Rollouts are therefore as short as they can be,
budgets count more steps than on the CPU, and everything that is counted in steps grows with them. Loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from policykd.agents.training.algorithms.ppo import PpoConfig
from policykd.agents.training.config import TrainConfig
from policykd.envs.world_counts import round_worlds


@dataclass(frozen=True)
class DeviceSettings:
    """What a CUDA device changes of a training's settings.

    Attributes:
        worlds: simulations.
        rollout_steps: steps of each between two updates.
        minibatches: minibatches of an epoch.
        target_kl: divergence of an update at the start of the budget, as a multiple of the CPU's.
        budget: environment steps, as a multiple of the CPU's.
        segment: updates between two validations.
        level_step: rise of the curriculum's level.
    """

    worlds: int = 1024
    rollout_steps: int = 16
    minibatches: int = 8
    target_kl: float = 2.0
    budget: float = 4.0
    segment: int = 24
    level_step: float = 0.08


DEVICE = DeviceSettings()
"""The settings that ``--device cuda`` chooses."""


def device_settings(config: TrainConfig, settings: DeviceSettings = DEVICE) -> TrainConfig:
    """Return a training's configuration as a CUDA device needs it; one of another algorithm than PPO stays as it is.

    Args:
        config: the configuration for the CPU.
        settings: what the device changes.
    """
    if config.algorithm != "ppo":
        return config
    ppo = device_ppo(config.ppo, settings)
    return replace(
        config,
        ppo=ppo,
        steps=device_steps(config.steps, settings),
        segment_steps=settings.segment * ppo.envs * ppo.rollout_steps,
        averaging_steps=round(config.averaging_steps * settings.budget),
        review_steps=round(config.review_steps * settings.budget) if config.review_steps > 1 else 1,
        level_step=settings.level_step,
    )


def device_ppo(ppo: PpoConfig, settings: DeviceSettings = DEVICE) -> PpoConfig:
    """Return the settings of PPO on a CUDA device."""
    worlds = max(round_worlds(ppo.envs), settings.worlds)
    return replace(
        ppo,
        envs=worlds,
        rollout_steps=settings.rollout_steps,
        minibatch=worlds * settings.rollout_steps // settings.minibatches,
        target_kl=settings.target_kl * ppo.target_kl,
        final_target_kl=settings.target_kl * ppo.final_target_kl,
    )


def device_steps(steps: int, settings: DeviceSettings = DEVICE) -> int:
    """Return a budget on a CUDA device, environment steps."""
    return round(steps * settings.budget)
