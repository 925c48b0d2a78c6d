"""Train an expert: check what is asked for, then run it in a folder from which it can be resumed.

It chooses the trainer; segments, validation and files are the trainer's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from policykd.agents.files.policy_file import LoadedPolicy
from policykd.agents.policy import check_groups, check_one_network
from policykd.agents.recurrent_policy import check_memoryless
from policykd.agents.training.algorithms import ALGORITHMS
from policykd.agents.training.config import TrainConfig
from policykd.agents.training.trainer import Run
from policykd.agents.validation import check_episodes
from policykd.envs.devices import choose_device
from policykd.envs.foreign.skill import check_continuous
from policykd.envs.skills import Skill, common_contract
from policykd.errors import ConfigError, ContractError
from policykd.progress import Progress, Silent
from policykd.runs import RunFolder
from policykd.threads import torch_threads


@dataclass(frozen=True)
class TrainResult:
    """Outcome of a training run.

    Attributes:
        policy_path: the policy file, with the weights of the best validation (see ``TrainConfig.finalists``).
        steps: environment steps used.
        seconds: wall time of learning and validation, over all sessions, s.
        success: validation success of the saved policy.
        reward_per_step: validation reward per step of the saved policy.
        reached_target: whether the run stopped because it reached its targets.
        failures: simulations that were reset because MuJoCo failed.
    """

    policy_path: Path
    steps: int
    seconds: float
    success: float
    reward_per_step: float
    reached_target: bool
    failures: int


def train_expert(
    skills: Sequence[Skill],
    out: Path,
    config: TrainConfig = TrainConfig(),
    *,
    init: LoadedPolicy | None = None,
    validate_on: Sequence[Skill] = (),
    resume: bool = False,
    progress: Progress = Silent(),
) -> TrainResult:
    """Train a policy on one skill, or on several at once.

    Args:
        skills: skills to train on; simulation i has skill ``i % len(skills)``.
        out: folder of the run; the policy file is ``out / "policy"``.
        config: the run.
        init: policy to start from; None for new weights.
        validate_on: skills of the validations, if they are not those of the training, to see what else is retained.
        resume: continue the run in ``out``; a finished run is returned as it is.
        progress: progress reporter.

    Returns:
        The result; on the CPU equal, timings apart, whether or not the run was interrupted.

    Raises:
        ConfigError: for a run of another configuration in ``out``, an algorithm that does not run on the device or
            needs bounded mean actions, or fewer validation episodes than skills.
        ContractError: if ``init`` does not fit the skills, or is recurrent.
        OutputError: if ``out`` cannot be written or holds a run and ``resume`` is off.
        MissingDependencyError: for a device that cannot be used here.
    """
    skill = common_contract(skills)
    check_continuous(skill.robot, "policykd train")
    # Every check comes before the folder holds a run, so that the next attempt may use the folder.
    config = _on_its_device(config)
    check_episodes(validate_on or skills, config.validation_episodes)
    _check_squash(config, init)
    if config.architecture.memory is not None:
        raise ConfigError("policies that are trained have no memory; leave out architecture.memory")
    if config.architecture.latent is not None:
        raise ConfigError("policies that are trained have no latent; leave out architecture.latent")
    if init is not None:
        check_memoryless(init.policy, "training")
        check_one_network(init.policy, "training", mixture=True)
        check_groups(init.policy.groups, skill.group_sizes, f"skill {skill.id}")
        if list(init.policy.groups) != list(skill.groups):
            raise ContractError(f"the initial policy reads {list(init.policy.groups)}, the skill has {skill.groups}")
    if validate_on:
        common_contract([*skills, *validate_on])
    folder = RunFolder(out, request(skills, config, init, validate_on), resume)
    if folder.result is None:
        with torch_threads(1):
            run = _run_class(config)
            run(skills, folder, config, init, validate_on or skills, progress).go()
    assert folder.result is not None
    return TrainResult(policy_path=out / "policy", **folder.result)


def request(
    skills: Sequence[Skill], config: TrainConfig, init: LoadedPolicy | None, validate_on: Sequence[Skill] = ()
) -> dict[str, Any]:
    """Return the record of a training in its folder; see :func:`train_expert` for the arguments.

    It leaves out the exploration noise of ``init``, which may have been changed since the policy was loaded.
    """
    parent = init.manifest.weights_sha256 if init is not None else None
    asked: dict[str, Any] = {"skills": skills, "train": _on_its_device(config), "init": parent}
    return {**asked, "validate_on": validate_on} if validate_on else asked


def _on_its_device(config: TrainConfig) -> TrainConfig:
    """Return the configuration with the device that ``auto`` stands for on this machine."""
    device = choose_device(config.device)
    if device.type not in config.algorithm_record.devices:
        able = [name for name, algorithm in ALGORITHMS.items() if device.type in algorithm.devices]
        raise ConfigError(
            f"algorithm {config.algorithm} runs on the CPU only; use --device cpu, or an algorithm that runs on device "
            f"{device}: {', '.join(able)}"
        )
    return replace(config, device=str(device))


def _check_squash(config: TrainConfig, init: LoadedPolicy | None) -> None:
    architecture = config.architecture if init is None else init.policy.architecture
    if config.algorithm_record.squash and not architecture.squash:
        raise ConfigError(
            f"algorithm {config.algorithm} needs a policy whose mean actions are bounded; set architecture.squash"
        )
    if config.algorithm_record.squash and architecture.mixture is not None:
        raise ConfigError(
            f"algorithm {config.algorithm} trains one network; leave out architecture.mixture, or use ppo"
        )


def _run_class(config: TrainConfig) -> type[Run]:
    """Return the class that drives a run on its device."""
    if config.device == "cpu":
        return Run
    from policykd.agents.training.device_trainer import DeviceRun  # needs MuJoCo, which gymnasium environments may not

    return DeviceRun
