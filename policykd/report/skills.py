"""Skills of a report by their ids: the only place of this package that turns an id into a skill, a name or a file."""

from __future__ import annotations

from collections.abc import Sequence

from policykd.curriculum.skills import short_name, skill_of
from policykd.envs.skills import Skill

__all__ = ["file_stem", "label_of", "skill_of", "skills_of"]


def skills_of(skill_ids: Sequence[str], groups: Sequence[str] | None = None) -> list[Skill]:
    """Return the skills of several ids.

    Args:
        skill_ids: the ids.
        groups: observation groups; None for those of the tasks.

    Raises:
        UnknownNameError: for an unknown skill.
    """
    return [skill_of(skill_id, groups) for skill_id in skill_ids]


def label_of(skill_id: str) -> str:
    """Return a skill's label in titles and plots: its id without the robot."""
    return skill_id.partition("/")[2]


def file_stem(skill_id: str) -> str:
    """Return the name of a skill's clips and pictures, without the suffix."""
    return short_name(skill_id)
