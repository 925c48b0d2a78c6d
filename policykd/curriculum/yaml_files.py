"""Frozen dataclasses as YAML, read back with every name and type checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml

from policykd.curriculum.recipe import Recipe
from policykd.errors import OutputError
from policykd.plain import as_plain, from_plain
from policykd.storage import write_text

Config = TypeVar("Config")


def save_yaml(config: Any, path: Path) -> None:
    """Write a dataclass with all its fields as YAML, atomically."""
    write_text(path, yaml.safe_dump(as_plain(config), sort_keys=False, default_flow_style=None, width=100))


def load_yaml(kind: type[Config], path: Path) -> Config:
    """Read a dataclass from a YAML file; fields that are left out have their defaults.

    Args:
        kind: the dataclass.
        path: the file.

    Raises:
        OutputError: if the file cannot be read or is no YAML mapping.
        UnknownNameError: for a field that the dataclass does not have, with close matches.
        ConfigError: for a value of the wrong type or out of range, naming the field.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise OutputError(f"cannot read {path}: {error}") from None
    return from_plain(kind, content, "")


def load_recipe(path: Path) -> Recipe:
    """A recipe from a YAML file; see :func:`load_yaml`."""
    return load_yaml(Recipe, path)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML; :func:`load_recipe` gives an equal one."""
    save_yaml(recipe, path)
