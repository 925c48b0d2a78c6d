"""Skills for policies: those that a person names or that files hold, with the observation groups of the policies.

It reads manifests and describes skills; it simulates nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from policykd.agents.files.manifest import Manifest
from policykd.envs.foreign import PREFIX
from policykd.envs.foreign.skill import GymSkill, together
from policykd.envs.skill_records import read_skill
from policykd.envs.skills import Skill

ASKS = {"command": "what the skill asks for", "phase": "where in its cycle the skill expects the robot"}
"""Observation groups that tell a policy about its task and not about the world."""


def unheard(manifest: Manifest, skill: Skill) -> list[str]:
    """Return the groups by which a skill tells a policy about its task, and which the policy does not read.

    Such a policy can do one task by habit; where commands vary, or several skills share a body, it cannot know what is
    asked for.
    """
    if isinstance(skill, GymSkill):
        return []
    return [name for name in skill.task.groups if name in ASKS and name not in manifest.groups]


def skills_for(manifests: Sequence[Manifest], names: Sequence[str] = ()) -> list[Skill]:
    """Return skills that offer every observation group that policies read.

    In a gymnasium environment, groups that only other environments of the policies have are absent: always zero.

    Args:
        manifests: the policies.
        names: skills as a person typed them; none for all that the policies were made for, except that numbered tasks
            of an environment stand for the plain one.

    Raises:
        UnknownNameError: for an unknown skill or group.
        ConfigError: for a skill that cannot be made.
    """
    groups = tuple(dict.fromkeys(name for manifest in manifests for name in manifest.groups))
    made_for = {name: manifest for manifest in manifests for name in manifest.skills}
    if names:
        records = [manifest.skill_records for manifest in manifests]
        skills = [read_skill(name, _asked(name, groups), records) for name in names]
    else:
        numbered = {name.partition("#")[0] for name in made_for if "#" in name}
        skills = [m.skill(name, _asked(name, groups)) for name, m in made_for.items() if name not in numbered]
    foreign = [skill for skill in skills if isinstance(skill, GymSkill)]
    if not foreign or len(foreign) < len(skills):
        return skills
    others = [m.skill(name) for name, m in made_for.items() if name.startswith(PREFIX)]
    known = [*foreign, *(skill for skill in others if isinstance(skill, GymSkill))]
    return list(together(known, groups)[: len(foreign)])


def _asked(name: str, groups: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the groups to ask a skill for: those that the policies read, or all of a gymnasium environment."""
    return None if name.startswith(PREFIX) else groups
