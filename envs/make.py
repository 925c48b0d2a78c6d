"""One function that returns simulations of skills, whatever simulates them.

It chooses between :class:`BatchedEnv`, its subclass for devices, :class:`GymBatch` and :class:`JointBatch` and does
nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from policykd.envs.devices import is_card
from policykd.envs.env_records import EnvConfig
from policykd.envs.foreign.gym_batch import GymBatch
from policykd.envs.foreign.joint_batch import JointBatch
from policykd.envs.foreign.skill import GymSkill
from policykd.envs.simulator import require_simulator
from policykd.envs.skills import Skill
from policykd.errors import ConfigError

if TYPE_CHECKING:
    from policykd.envs.batched_env import BatchedEnv

AnyEnv: TypeAlias = Union["BatchedEnv", GymBatch, JointBatch]
"""Simulations with ``reset``, ``step``, ``seed`` and ``check_overflow``."""


def make_env(
    skills: Sequence[Skill],
    num_envs: int,
    *,
    seed: int = 0,
    config: EnvConfig = EnvConfig(),
    threads: int | None = None,
    device: str = "cpu",
    **options: Any,
) -> AnyEnv:
    """Return simulations of skills; on a CUDA device they step with masks, too, where that does all that is asked for.

    Args:
        skills: skills that can share an environment; of gymnasium environments, with equal groups and actions.
        num_envs: number of simulations.
        seed: seed of tracks and initial states.
        config: tracks and initial states; gymnasium environments have their own.
        threads: threads of our own simulation; gymnasium environments run in this one.
        device: device of our own simulation.
        options: further arguments of :class:`BatchedEnv`.

    Raises:
        ContractError: if the skills cannot share an environment.
        ConfigError: for a number out of range, or a device that gymnasium environments do not have.
        UnknownNameError: for an unknown device.
        MissingDependencyError: for a robot, without the version of MuJoCo that simulates it.
    """
    foreign = [skill for skill in skills if isinstance(skill, GymSkill)]
    if not foreign:
        require_simulator()
        from policykd.envs.batched_env import BatchedEnv
        from policykd.envs.masked_env import MaskedEnv

        masks = is_card(device) and MaskedEnv.suits(skills, config)
        own: type[BatchedEnv] = MaskedEnv if masks else BatchedEnv
        return own(skills, num_envs, seed=seed, config=config, threads=threads, device=device, **options)
    if len(foreign) != len(skills):
        other = next(skill for skill in skills if not isinstance(skill, GymSkill))
        raise ConfigError(f"{foreign[0].id} is a gymnasium environment and cannot share a batch with {other.id}")
    if device not in ("cpu", "auto"):
        raise ConfigError(f"{foreign[0].id} is a gymnasium environment and runs on device cpu only, not on {device}")
    kind = GymBatch if len(foreign) == 1 else JointBatch
    return kind(foreign, num_envs, seed=seed, config=config)
