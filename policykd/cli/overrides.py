"""``--set ppo.learning_rate=3e-4``: any field of a configuration from the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import yaml

from policykd.errors import ConfigError, UnknownNameError

Config = TypeVar("Config")


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """A copy of a frozen configuration with fields replaced.

    Args:
        config: a frozen dataclass, which may hold others.
        overrides: ``field=value`` or ``group.field=value``; values are read as YAML.

    Raises:
        UnknownNameError: for a field that is not there, with the close matches.
        ConfigError: for an override without ``=``, a value of the wrong type, or one out of range.
    """
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"--set {override}: write it as field=value, for example ppo.epochs=5")
        config = _replaced(config, path.strip().split("."), yaml.safe_load(text), override)
    return config


def _replaced(config: Any, path: Sequence[str], value: Any, override: str) -> Any:
    names = [f.name for f in dataclasses.fields(config)]
    if path[0] not in names:
        raise UnknownNameError(f"field in --set {override}:", path[0], names)
    old = getattr(config, path[0])
    if len(path) > 1:
        if not dataclasses.is_dataclass(old):
            raise ConfigError(f"--set {override}: '{path[0]}' has no fields of its own")
        return dataclasses.replace(config, **{path[0]: _replaced(old, path[1:], value, override)})
    return dataclasses.replace(config, **{path[0]: _converted(old, value, override)})


def _converted(old: Any, value: Any, override: str) -> Any:
    """The value in the type of the field's default."""
    if dataclasses.is_dataclass(old):
        fields = ", ".join(f.name for f in dataclasses.fields(old))
        raise ConfigError(f"--set {override}: set one of its fields: {fields}")
    if old is None or value is None:
        return value
    if isinstance(old, tuple):
        return tuple(value) if isinstance(value, list) else (value,)
    if isinstance(old, float) and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 3e-4 as text
        except ValueError:
            pass
    elif type(old) is type(value):
        return value
    raise ConfigError(f"--set {override}: expected a {type(old).__name__}, for example {old}")
