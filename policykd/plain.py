"""Frozen dataclasses as the plain values of JSON and YAML, and back with every name and type checked."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from policykd.errors import ConfigError, UnknownNameError

Config = TypeVar("Config")


def as_plain(value: Any) -> Any:
    """Dataclasses, mappings and sequences as the JSON types that they are written as."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): as_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


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
    return kind(**{k: typed(hints[k], v, f"{name}.{k}" if name else str(k)) for k, v in content.items()})


def typed(hint: Any, value: Any, name: str) -> Any:
    """A value in the type of its field.

    Args:
        hint: the type, resolved: a dataclass, a Literal, a tuple, an optional type, ``Any``, or a plain type.
        value: what JSON or YAML holds; numbers may be written as text, as YAML reads 3e-4.
        name: the field, for messages.

    Raises:
        UnknownNameError: for a value that is none of the valid names.
        ConfigError: for a value of another type.
    """
    if hint is Any:
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, value, name)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return typed(next(a for a in arguments if a is not type(None)), value, name)
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
        raise ConfigError(f"{name} is {value!r}; it must be a list, for example [{value}]")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(typed(arguments[0], v, f"{name}[{i}]") for i, v in enumerate(value))
    if len(value) != len(arguments):
        raise ConfigError(f"{name} has {len(value)} values; it must have {len(arguments)}")
    return tuple(typed(a, v, f"{name}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))


def _float(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name} is {text!r}; it must be a number") from None
