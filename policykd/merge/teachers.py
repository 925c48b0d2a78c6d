"""Teachers: the expert that labels each skill, and the checks before a merge begins.

It may load policies, and never changes one.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from policykd.agents.files.policy_file import LoadedPolicy, check_fits
from policykd.agents.function_policy import Function, FunctionPolicy
from policykd.agents.policy import Policy
from policykd.envs.foreign.skill import PREFIX, TASK_ID, GymSkill, check_continuous, together
from policykd.envs.observations import split_history
from policykd.envs.skills import Skill, common_contract
from policykd.envs.terrains import Terrain
from policykd.errors import ConfigError, ContractError, UnknownNameError


@dataclass(frozen=True)
class Teacher:
    """An expert and the skill that it labels.

    Attributes:
        skill: the skill, with all observation groups that student and teachers read.
        policy: the expert; its deterministic mean, under its own normalizer, is the label.
        source: the policy file that it came from, as written into the student's lineage.
        weights_sha256: hash of the expert's weights.
    """

    skill: Skill
    policy: Policy
    source: str
    weights_sha256: str

    @torch.no_grad()
    def assess(self, flat: torch.Tensor, columns: Mapping[str, slice]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the teacher's values of states, and their distances from its training states.

        Args:
            flat: (n, features) flat observations.
            columns: columns of each observation group in them, in order; at least of those that the teacher reads.

        Returns:
            (n,) the teacher's values, and (n,) the largest magnitudes of its normalized features, in standard
            deviations.
        """
        observations = self.policy.select(flat, columns)
        features = self.policy.normalizer(self.policy.canonical(observations)[0])
        return self.policy.value(observations), features.abs().amax(dim=-1)


def teachers_from(
    experts: Sequence[tuple[str, LoadedPolicy]],
    only: Mapping[str, Collection[str]] | None = None,
    *,
    task_id: bool = False,
) -> list[Teacher]:
    """Return one teacher per skill that the experts were trained on.

    An earlier student may teach its old skills together with a specialist for a new one.

    Args:
        experts: (source, loaded policy file) in the order in which the student lists its skills.
        only: ids of the skills that a source is to label; sources that are not named here label all of theirs.
        task_id: give the student an observation group that tells which teacher's task it has; of gymnasium
            environments only. Several teachers may then share an environment.

    Returns:
        The teachers; their skills share one environment's observation groups, the union of all experts'.

    Raises:
        ConfigError: for fewer than one expert, or two that claim the same skill.
        UnknownNameError: if a source is to label a skill that it was not made for, or ``only`` names no expert.
        ContractError: if an expert's robot, actions or groups do not fit its skill, the skills differ, or two of them
            ask for different tasks on the same terrain and no observation group distinguishes them.
    """
    if not experts:
        raise ConfigError("no expert was given; name at least one policy file")
    for source in only or {}:
        if source not in (known := [name for name, _ in experts]):
            raise UnknownNameError("expert", source, known)
    groups = tuple(dict.fromkeys(name for _, loaded in experts for name in loaded.policy.groups))
    if task_id:
        return _numbered(experts, only, groups)
    teachers: dict[str, Teacher] = {}
    for source, loaded in experts:
        for skill_id in _labeled(source, loaded, only):
            if skill_id in teachers:
                raise ConfigError(
                    f"{teachers[skill_id].source} and {source} both label {skill_id}; leave one out, or say which "
                    f"skills a policy is to label: POLICY@SKILL,SKILL"
                    f"{', or tell them apart with --task-id' if skill_id.startswith(PREFIX) else ''}"
                )
            skill = loaded.manifest.skill(skill_id, None if skill_id.startswith(PREFIX) else groups)
            check_fits(loaded.manifest, skill)
            teachers[skill_id] = Teacher(skill, loaded.policy, source, loaded.manifest.weights_sha256)
    found = _with_groups(list(teachers.values()), groups)
    common_contract([t.skill for t in found])
    _check_distinguishable([t.skill for t in found], found[0].skill.groups)
    return found


def _with_groups(teachers: Sequence[Teacher], groups: Sequence[str]) -> list[Teacher]:
    """Return teachers whose gymnasium skills offer the groups of all of them."""
    foreign = [t.skill for t in teachers if isinstance(t.skill, GymSkill)]
    if len(foreign) < len(teachers):
        return list(teachers)
    return [replace(t, skill=skill) for t, skill in zip(teachers, together(foreign, groups), strict=True)]


def offering(teachers: Sequence[Teacher], groups: Sequence[str]) -> list[Teacher]:
    """Return teachers whose skills also have the observation groups that a student is to read.

    Teachers go on reading their own groups; the environment computes those of both.

    Args:
        teachers: one per skill.
        groups: the student's groups, registered or histories such as ``joints:5``; empty for those of the teachers.

    Raises:
        UnknownNameError: for a group that is not registered, or that a gymnasium environment does not have.
        ContractError: for a group that the robot does not have, or students that cannot tell tasks apart by theirs.
    """
    if not groups:
        return list(teachers)
    _check_distinguishable([t.skill for t in teachers], groups)
    found = []
    for teacher in teachers:
        skill = teacher.skill
        lacking = tuple(name for name in groups if name not in skill.groups)
        if lacking and isinstance(skill, GymSkill):
            raise UnknownNameError("observation group of the teachers", lacking[0], skill.group_sizes)
        found.append(replace(teacher, skill=replace(skill, groups=(*skill.groups, *lacking))) if lacking else teacher)
    return found


def function_teacher(name: str, function: Function, skill: Skill) -> Teacher:
    """Return a teacher that is a function: a scripted controller, a torch module, an ONNX session.

    Args:
        name: name of the function and its version; the student's lineage keeps it.
        function: from observations (n, features) of the skill's groups, in order, to actions (n, actions): in the units
            of the environment for a gymnasium skill, in [-1, 1] for a robot.
        skill: the skill.

    Raises:
        ContractError: for discrete actions, whose teachers give the logits of all choices.
    """
    check_continuous(skill.robot, "a function as a teacher")
    count = skill.robot.num_actions
    low, high = [-1.0] * count, [1.0] * count
    if isinstance(skill, GymSkill):
        low, high = list(skill.actions.low), list(skill.actions.high)
    policy = FunctionPolicy(function, skill.group_sizes, low, high)
    return Teacher(skill, policy, name, hashlib.sha256(name.encode()).hexdigest())


def _numbered(
    experts: Sequence[tuple[str, LoadedPolicy]],
    only: Mapping[str, Collection[str]] | None,
    groups: tuple[str, ...],
) -> list[Teacher]:
    """Return teachers whose skills have the group ``task_id``, one task per teacher and skill."""
    teachers = []
    for source, loaded in experts:
        for skill_id in _labeled(source, loaded, only):
            skill = loaded.manifest.skill(skill_id)
            if not isinstance(skill, GymSkill):
                raise ConfigError(
                    f"--task-id is for gymnasium environments; {skill_id} is told apart by the group command"
                )
            check_fits(loaded.manifest, skill)
            teachers.append(Teacher(skill, loaded.policy, source, loaded.manifest.weights_sha256))
    numbered = []
    for number, teacher in enumerate(_with_groups(teachers, groups)):
        assert isinstance(teacher.skill, GymSkill)
        chosen = (*teacher.skill.groups, TASK_ID)
        skill = replace(teacher.skill, groups=chosen, tasks=len(teachers), task_number=number)
        numbered.append(replace(teacher, skill=skill))
    common_contract([t.skill for t in numbered])
    return numbered


def on_device(teachers: Sequence[Teacher], device: torch.device) -> list[Teacher]:
    """Return the teachers with their policies on a device; a policy that teaches several skills is copied once."""
    if device.type == "cpu":
        return list(teachers)
    moved = {id(t.policy): copy.deepcopy(t.policy).to(device) for t in teachers}
    return [replace(t, policy=moved[id(t.policy)]) for t in teachers]


def _check_distinguishable(skills: Sequence[Skill], groups: Sequence[str]) -> None:
    """Raise ContractError if tasks differ on one terrain and a student of these groups is not told which it has."""
    if any(split_history(name)[0] in ("command", TASK_ID) for name in groups):
        return
    seen: dict[Terrain, Skill] = {}
    for skill in skills:
        other = seen.setdefault(skill.terrain, skill)
        if other.task != skill.task:
            raise ContractError(
                f"{other.id} and {skill.id} ask for different actions in the same states, and a student cannot tell "
                f"them apart by {', '.join(groups)}; add the group command: to an expert "
                f"(policykd train ... --groups {' '.join((*groups, 'command'))}) or, if one of them has it, to the "
                f"student (policykd merge ... --groups)"
            )


def _labeled(source: str, loaded: LoadedPolicy, only: Mapping[str, Collection[str]] | None) -> Sequence[str]:
    """Return the skills that a source labels."""
    made_for = loaded.manifest.skills
    wanted = made_for if only is None or source not in only else tuple(only[source])
    for skill_id in wanted:
        if skill_id not in made_for:
            raise UnknownNameError(f"skill of {source}:", skill_id, made_for)
    return wanted
