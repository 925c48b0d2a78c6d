"""Frozen dataclasses as YAML, read back with every name and type checked."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from policykd.curriculum.recipe import Recipe
from policykd.errors import ConfigError, OutputError, UnknownNameError
from policykd.runs import as_plain
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


def from_plain(kind: type[Config], content: Any, name: str) -> Config:
    """A dataclass from nested mappings and lists.

    Args:
        kind: the dataclass.
        content: field names to values; fields that are left out have their defaults.
        name: what is read, for messages; empty at the top.

    Raises:
        UnknownNameError: for a field that is not there.
        ConfigError: for a missing field, a value of the wrong type or out of range.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"{name or 'the file'} must be a mapping of field names to values; got {content!r}")
    hints = get_type_hints(kind)
    fields: dict[str, dataclasses.Field[Any]] = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in content:
        if key not in fields:
            raise UnknownNameError(f"field of {name or 'the file'}:", str(key), fields)
    for key, entry in fields.items():
        optional = entry.default is not dataclasses.MISSING or entry.default_factory is not dataclasses.MISSING
        if key not in content and not optional:
            raise ConfigError(f"{name + '.' if name else ''}{key} is missing")
    return kind(**{k: _value(hints[k], v, f"{name}.{k}" if name else str(k)) for k, v in content.items()})


def _value(hint: Any, value: Any, name: str) -> Any:
    """A value in the type of its field."""
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, value, name)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _value(next(a for a in arguments if a is not type(None)), value, name)
    if origin is tuple:
        return _tuple(arguments, value, name)
    if origin is Literal:
        if value not in arguments:
            raise UnknownNameError(name, str(value), [str(a) for a in arguments])
        return value
    if hint is float and isinstance(value, str):
        return _float(value, name)  # YAML reads 3e-4 as text
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{name} is {value!r}; it must be of type {hint.__name__}")
    return value


def _tuple(arguments: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{name} is {value!r}; it must be a list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_value(arguments[0], v, f"{name}[{i}]") for i, v in enumerate(value))
    if len(value) != len(arguments):
        raise ConfigError(f"{name} has {len(value)} values; it must have {len(arguments)}")
    return tuple(_value(a, v, f"{name}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))


def _float(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name} is {text!r}; it must be a number") from None
