"""Skills of a curriculum by their ids: the only place of this package that turns an id into a skill or a name."""

from __future__ import annotations

from collections.abc import Sequence

from policykd.envs.skills import Skill, get_skill


def skill_of(skill_id: str, groups: Sequence[str] | None = None) -> Skill:
    """Return the skill of an id.

    Args:
        skill_id: id, for example ``biped/steps``.
        groups: observation groups; None for those of the task.

    Raises:
        UnknownNameError: for an unknown skill or observation group.
    """
    return get_skill(skill_id, groups)


def short_name(skill_id: str) -> str:
    """Return a skill's name in stages, rows and files: its id without the robot, in characters of a file name."""
    return skill_id.partition("/")[2].replace(":", "-").replace("@", "-")
