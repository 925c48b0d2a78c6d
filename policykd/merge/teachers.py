"""Teachers: which expert labels which skill, and the checks before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from policykd.agents.policy import Policy
from policykd.agents.policy_file import LoadedPolicy, check_fits
from policykd.envs.skills import Skill, common_contract, get_skill
from policykd.errors import ConfigError


@dataclass(frozen=True)
class Teacher:
    """An expert and the skill that it labels.

    Attributes:
        skill: the skill, with the observation groups that student and teachers need together.
        policy: the expert; its deterministic mean, under its own normaliser, is the label.
        source: the policy file that it came from, as written into the student's lineage.
        weights_sha256: hash of the expert's weights.
    """

    skill: Skill
    policy: Policy
    source: str
    weights_sha256: str


def teachers_from(experts: Sequence[tuple[str, LoadedPolicy]]) -> list[Teacher]:
    """One teacher per skill that the experts were trained on.

    Args:
        experts: (source, loaded policy file) in the order in which the student lists its skills.

    Returns:
        The teachers; their skills share one environment's observation groups, the union of all experts'.

    Raises:
        ConfigError: for fewer than one expert, or two that claim the same skill.
        ContractError: if an expert's robot, actions or groups do not fit its skill, or the skills differ.
    """
    if not experts:
        raise ConfigError("no expert was given; name at least one policy file")
    groups = tuple(dict.fromkeys(name for _, loaded in experts for name in loaded.policy.groups))
    teachers: dict[str, Teacher] = {}
    for source, loaded in experts:
        for skill_id in loaded.manifest.skills:
            if skill_id in teachers:
                raise ConfigError(f"{teachers[skill_id].source} and {source} both label {skill_id}; leave one out")
            skill = replace(get_skill(skill_id), groups=groups)
            check_fits(loaded.manifest, skill)
            teachers[skill_id] = Teacher(skill, loaded.policy, source, loaded.manifest.weights_sha256)
    common_contract([t.skill for t in teachers.values()])
    return list(teachers.values())
