"""``--set ppo.learning_rate=3e-4``: overrides of configuration fields from the command line.

It reads YAML values into frozen dataclasses through ``policykd.plain`` and knows no command.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar, get_type_hints

from policykd.errors import ConfigError, UnknownNameError
from policykd.parsing import parse_yaml
from policykd.plain import typed

Config = TypeVar("Config")


def with_overrides(config: Config, overrides: Sequence[str], option: str = "--set") -> Config:
    """Return a copy of a frozen configuration with fields replaced.

    Args:
        config: a frozen dataclass, which may hold others.
        overrides: ``field=value`` or ``group.field=value``; values are read as YAML.
        option: the option that they were given with, for messages.

    Raises:
        UnknownNameError: for an unknown field; close matches are named.
        ConfigError: for an override without ``=``, a value of the wrong type, or one out of range.
    """
    changes: dict[str, Any] = {}
    for override in overrides:
        path, equals, text = override.partition("=")
        given = f"{option} {override}"
        if not equals:
            raise ConfigError(f"{given}: write it as field=value, for example ppo.epochs=5")
        _place(changes, config, path.strip().split("."), read_value(text, given), given)
    return _changed(config, changes)


def from_options(kind: type[Config], options: Any, **others: Any) -> Config:
    """Return a configuration with the values of a command's options of the same names.

    Args:
        kind: the configuration's dataclass.
        options: the command; options without a field of the same name are ignored.
        **others: values of further fields; they take precedence over options.

    Raises:
        ConfigError: for a value out of range.
    """
    names = {entry.name for entry in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in vars(options).items() if name in names} | others)


def read_value(text: str, option: str) -> Any:
    """Return the value of an option, read as YAML.

    Args:
        text: the value.
        option: the whole option, for messages.

    Raises:
        ConfigError: for text that is not valid YAML, such as an unclosed list.
    """
    return parse_yaml(text.encode("utf-8", "surrogateescape"), f"{option}: the value", ConfigError)


def _place(changes: dict[str, Any], config: Any, path: Sequence[str], value: Any, given: str) -> None:
    """Add one override to the tree of changes."""
    name, rest = path[0], path[1:]
    names = [f.name for f in dataclasses.fields(config)]
    if name not in names:
        raise UnknownNameError(f"field in {given}:", name, names)
    old = getattr(config, name)
    if not rest:
        changes[name] = _checked(get_type_hints(type(config))[name], old, value, given)
    elif dataclasses.is_dataclass(old):
        _place(changes.setdefault(name, {}), old, rest, value, given)
    else:
        raise ConfigError(f"{given}: '{name}' has no fields; set '{name}' itself")


def _changed(config: Any, changes: dict[str, Any]) -> Any:
    """Return the configuration with all changes applied at once, so that dependent fields are checked together."""
    return dataclasses.replace(
        config, **{k: _changed(getattr(config, k), v) if isinstance(v, dict) else v for k, v in changes.items()}
    )


def _checked(hint: Any, old: Any, value: Any, given: str) -> Any:
    """Return the value converted to the type of the field."""
    name = given.partition(" ")[2].partition("=")[0].strip()
    if dataclasses.is_dataclass(old):
        fields = ", ".join(f.name for f in dataclasses.fields(old))
        raise ConfigError(f"{given}: write {name}.FIELD=VALUE to set one of its fields: {fields}")
    return typed(hint, value, name)
