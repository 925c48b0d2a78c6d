"""Skills and observation groups of a recipe by their names, imported and registered where another package has them.

The only place of this package that turns a name into a skill; it may use ``policykd.envs``, and loads no policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from policykd.curriculum.recipe import Injection, Recipe
from policykd.envs.skill_records import import_group, read_skill, recorded_skill
from policykd.envs.skills import Skill


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
        read_skill(name) if "/" in name else import_group(name)
