"""Skills of a report by their ids: the only place of this package that turns an id into a skill or a label.

It may use ``policykd.envs``, and imports no code that a result names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policykd.envs.foreign import PREFIX
from policykd.envs.skill_records import recorded_skill
from policykd.envs.skills import Skill


def skills_of(
    skill_ids: Sequence[str], groups: Sequence[str] | None = None, records: Mapping[str, Any] | None = None
) -> list[Skill]:
    """Return the skills of several ids.

    Args:
        skill_ids: the ids.
        groups: observation groups; None for those of the records or the tasks.
        records: records of the skills whose ids do not say everything, as a recipe holds them.

    Raises:
        UnknownNameError: for an unknown skill.
    """
    return [recorded_skill(skill_id, records, groups) for skill_id in skill_ids]


def is_environment(skill_id: str) -> bool:
    """Return whether an id is that of a gymnasium environment, which has no terrain that could be drawn."""
    return skill_id.startswith(PREFIX)


def label_of(skill_id: str) -> str:
    """Return a skill's label in titles and plots: its id without the robot; an environment's id without ``gym:``."""
    if is_environment(skill_id):
        return skill_id.removeprefix(PREFIX)
    return skill_id.partition("/")[2]
