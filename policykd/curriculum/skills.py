"""Skills and observation groups of a recipe by their names, imported and registered where another package has them.

The only place of this package that turns a name into a skill; it may use ``policykd.envs``, and loads no policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from policykd.curriculum.recipe import Injection, Recipe
from policykd.envs.foreign.skill import PREFIX, TASK_ID, GymSkill
from policykd.envs.skill_records import import_group, read_skill, recorded_skill
from policykd.envs.skills import Skill
from policykd.errors import ConfigError, ContractError


def skill_of_recipe(recipe: Recipe, name: str, groups: Sequence[str] | None = None) -> Skill:
    """Return a skill of a recipe, after importing and registering its ``package.module:Attribute`` parts.

    Args:
        recipe: the recipe.
        name: skill as the recipe names it.
        groups: observation groups; None for those of the record or the task.

    Raises:
        UnknownNameError: for an unknown skill or observation group.
        ConfigError: if a part cannot be imported.
    """
    if recipe.skill_records and name in recipe.skill_records:
        return recorded_skill(name, recipe.skill_records, groups)
    return read_skill(name, groups)


def environments_of_recipe(recipe: Recipe) -> tuple[GymSkill, ...]:
    """Return the gymnasium skills of a recipe with their own observation groups; none if it has skills of robots.

    Raises:
        ContractError: if it has skills of both kinds.
        ConfigError: if groups are to be injected at another place than before the environment that has them.
    """
    skills = [skill_of_recipe(recipe, plan.skill) for plan in recipe.skills]
    found = tuple(skill for skill in skills if isinstance(skill, GymSkill))
    if not found and recipe.task_id:
        raise ConfigError("task_id is for gymnasium environments; robots have the observation group command")
    if not found:
        return ()
    if len(found) < len(skills):
        other = next(skill for skill in skills if not isinstance(skill, GymSkill))
        raise ContractError(
            f"{found[0].id} is a gymnasium environment and {other.id} is not; they cannot share a policy"
        )
    asked, default = recipe.injection, Injection()
    for name in ("blind", "blind_groups", "groups"):
        if getattr(asked, name) != getattr(default, name):
            raise ConfigError(
                f"injection.{name} is {getattr(asked, name)}, but gymnasium environments bring their own groups, which "
                f"are injected before each of them; leave it out"
            )
    if not recipe.task_id:
        return found
    return tuple(
        replace(skill, groups=(*skill.groups, TASK_ID), tasks=len(found), task_number=i)
        for i, skill in enumerate(found)
    )


def import_groups(injection: Injection) -> Injection:
    """Import and register groups given as ``package.module:Attribute``; return the injection with their names.

    Raises:
        ConfigError: if a group cannot be imported.
    """
    encoder = injection.encoder
    return replace(
        injection,
        blind_groups=tuple(map(import_group, injection.blind_groups)),
        groups=tuple(map(import_group, injection.groups)),
        encoder=None if encoder is None else replace(encoder, group=import_group(encoder.group)),
    )


def import_names(names: Sequence[str]) -> None:
    """Import and register the parts of skills and the groups that a plan names as ``package.module:Attribute``."""
    for name in names:
        if not name.startswith(PREFIX):
            read_skill(name) if "/" in name else import_group(name)
