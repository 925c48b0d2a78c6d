"""The student before its first round: new weights, a copy of a teacher, or an earlier student.

It builds and copies networks, and reads no file.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import LoadedPolicy, Parent, check_fits
from policykd.agents.function_policy import check_learns
from policykd.agents.injection import inject
from policykd.agents.policy import Policy
from policykd.agents.recurrent_policy import make_policy
from policykd.agents.renormalization import check_extends
from policykd.envs.foreign.skill import GymSkill
from policykd.envs.observations import split_history
from policykd.envs.skills import Skill
from policykd.envs.symmetry import mirror_symmetry
from policykd.errors import ConfigError, ContractError, UnknownNameError
from policykd.merge.config import MergeConfig
from policykd.merge.teachers import Teacher
from policykd.seeding import integer_seed

ENVIRONMENT_MIN_STD = 0.01
"""Lower bound of the standard deviations in the normalizer of a student of gymnasium environments, whose units may be
small: 11 of 24 features of BipedalWalker vary by less than 0.1, the bound for our own robots."""


def first_student(teachers: Sequence[Teacher], config: MergeConfig, init: LoadedPolicy | None) -> Policy:
    """Return the first student, as ``config.start`` asks.

    A new student is symmetric if every teacher is and it has no memory. A copy that lacks observation groups gets them
    injected, which does not change its actions. The exploration noise is the teachers' mean, for later reinforcement
    learning.

    Args:
        teachers: one per skill.
        config: the merge.
        init: the earlier student of ``start="previous"``.

    Returns:
        The student, sharing no memory with a teacher.

    Raises:
        ConfigError: if ``init`` is missing, or given for another start.
        UnknownNameError: for a start at the teacher of a skill that is not merged, or a group that no teacher reads.
        ContractError: if the policy to start from reads observation groups that no teacher reads, or another robot's,
            or has a memory and lacks groups.
    """
    check_start(config, init)
    student = _new(teachers, config) if config.start == "random" else _copy(teachers, config, init)
    student.log_std.data.copy_(log_std_of(teachers).mean(dim=0))
    return student


def check_start(config: MergeConfig, init: LoadedPolicy | None) -> None:
    """Raise unless a policy is given exactly where the merge starts from one.

    Raises:
        ConfigError: for a policy that is missing or would not be used.
        ContractError: for one whose normalizer is to be extended and cannot be.
    """
    if config.start == "previous" and init is None:
        raise ConfigError("merge.start is 'previous': give the policy to start from (--init POLICY)")
    if config.start != "previous" and init is not None:
        raise ConfigError(
            f"merge.start is '{config.start}', so the policy given as init would not be used; set start=previous"
        )
    if init is not None and config.normalizer == "extended":
        check_extends(init.policy)


def log_std_of(teachers: Sequence[Teacher]) -> torch.Tensor:
    """Return (skills, actions) log standard deviations of each teacher's actions."""
    return torch.stack([t.policy.log_std.detach() for t in teachers])


def parents(teachers: Sequence[Teacher], init: LoadedPolicy | None) -> list[Parent]:
    """Return the policies that the student is made from, each once: the teachers, and its start."""
    found = list(dict.fromkeys(Parent(t.source, t.weights_sha256) for t in teachers))
    if init is not None and init.manifest.weights_sha256 not in {p.weights_sha256 for p in found}:
        found.append(init.manifest.as_parent("init"))
    return found


def _new(teachers: Sequence[Teacher], config: MergeConfig) -> Policy:
    skill = teachers[0].skill
    symmetric = all(t.policy.symmetry is not None for t in teachers)
    groups = config.groups or skill.groups
    for name in groups:
        if name not in skill.group_sizes:
            raise UnknownNameError("observation group of the teachers", name, skill.group_sizes)
    symmetric &= config.architecture.memory is None  # a memory has no mirror image
    architecture = config.architecture
    if architecture.latent is not None:
        # Which side leads must be told by what the robot measures.
        symmetric &= mirror_symmetry(groups, skill.robot) is not None
        architecture, groups = _with_latent(architecture, skill, groups)
    symmetry = mirror_symmetry(groups, skill.robot) if symmetric else None
    seed = integer_seed(config.seed, "student", *[t.skill.id for t in teachers])
    sizes = {name: skill.group_sizes[name] for name in groups}
    student = make_policy(sizes, teachers[0].policy.actions, architecture, seed, symmetry)
    if isinstance(skill, GymSkill):
        student.normalizer.min_std = ENVIRONMENT_MIN_STD
    if any(student.present([t.skill]) is not None for t in teachers):
        student.normalizer.count_apart()
    return student


def _with_latent(
    architecture: Architecture, skill: Skill, groups: Sequence[str]
) -> tuple[Architecture, tuple[str, ...]]:
    """Return the architecture with the groups of its latent, and the student's groups with privileged ones in front.

    Privileged are the groups of the teachers that the student is not to read; the last group that tells which side
    leads is then one that it reads.
    """
    latent = architecture.latent
    assert latent is not None
    if not latent.history:
        history = tuple(name for name in groups if split_history(name)[1] is not None)
        latent = replace(latent, history=history)
    if not latent.privileged:
        known = {split_history(name)[0] for name in groups}
        latent = replace(latent, privileged=tuple(name for name in skill.groups if name not in known | set(groups)))
    if not latent.history or not latent.privileged:
        raise ConfigError(
            f"a latent student estimates groups that it does not read from histories that it reads; merge.groups are "
            f"{tuple(groups)}: add a history such as joints:15 next to joints, and leave out groups of the teachers "
            f"({', '.join(skill.groups)})"
        )
    return replace(architecture, latent=latent), (*latent.privileged, *groups)


def _copy(teachers: Sequence[Teacher], config: MergeConfig, init: LoadedPolicy | None) -> Policy:
    skill = teachers[0].skill
    if init is not None:
        policy = init.policy
    elif config.start == "newest":
        policy = teachers[-1].policy
    else:
        of_skill = {t.skill.id: t.policy for t in teachers}
        if config.start not in of_skill:
            raise UnknownNameError("start", config.start, [*of_skill, "random", "newest", "previous"])
        policy = of_skill[config.start]
    check_learns(policy, "a student's start")
    offered = config.groups or skill.groups
    if extra := sorted(policy.groups.keys() - set(offered)):
        where = "merge.groups leave out; name all of its groups" if config.groups else "no teacher reads"
        raise ContractError(
            f"merge.start is '{config.start}', but that policy reads {extra}, which {where}, or set start=random"
        )
    if init is not None:
        check_fits(init.manifest, skill)
    lacking = [name for name in offered if name not in policy.groups]
    seed = integer_seed(config.seed, "injection")
    grown = (
        inject(policy, lacking, robot=skill.robot, sizes=skill.group_sizes, seed=seed)
        if lacking
        else copy.deepcopy(policy)
    )
    return grown.train()
