"""Records as the plain values of JSON and YAML, and back with every name, type and limit checked.

The only reader of records: configurations, manifests and stored results pass through :func:`from_plain`. It knows
dataclasses and types, and nothing of their meaning.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from policykd.errors import ConfigError, OutputError, PolicykdError, UnknownNameError
from policykd.parsing import MakeError

Record = TypeVar("Record")
_ADDED = "added"
_LARGEST = 1e300
_SHOWN = 60  # characters of a wrong value in a message


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of a value in a file; a field's type names them: ``Annotated[int, Limits(0, 100)]``.

    Attributes:
        low: smallest number.
        high: largest number.
        entries: largest number of entries of a list, or of characters of a text.
        pattern: regular expression that a whole text must match.
        what: name of such a text in messages, for example ``a sha256``.
    """

    low: float = -math.inf
    high: float = math.inf
    entries: int | None = None
    pattern: str | None = None
    what: str = ""

    def check(self, name: str, value: Any) -> None:
        """Raise ConfigError unless a value of the right type is within the limits."""
        if isinstance(value, int | float) and not self.low <= value <= self.high:
            raise ConfigError(f"{name} is {shown(value)}; it must be in [{self.low}, {self.high}]")
        if self.entries is not None and isinstance(value, tuple | str) and len(value) > self.entries:
            raise ConfigError(f"{name} has {len(value)} entries; at most {self.entries} are allowed")
        if self.pattern is not None and isinstance(value, str) and re.fullmatch(self.pattern, value) is None:
            raise ConfigError(f"{name} is {shown(value)}, not {self.what or self.pattern}")


def check_limits(record: Any) -> None:
    """Raise ConfigError for the first field of a dataclass that is outside the :class:`Limits` that its type names.

    Limits of a base class also hold where a subclass declares the field again, for example with another default.
    """
    for kind in reversed(type(record).__mro__):
        hints = _hints(kind) if dataclasses.is_dataclass(kind) else {}
        for name, hint in hints.items():
            for limits in getattr(hint, "__metadata__", ()):
                if isinstance(limits, Limits):
                    limits.check(name, getattr(record, name))


def added(default: Any) -> Any:
    """Return a dataclass field of a later version: records leave it out at its default.

    Files without it then stay the same, byte for byte, and interrupted runs of an earlier version can be resumed.
    """
    return dataclasses.field(default=default, metadata={_ADDED: True})


def as_plain(value: Any) -> Any:
    """Return dataclasses, mappings and sequences as the JSON types that they are written as."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_plain(getattr(value, f.name)) for f in dataclasses.fields(value) if not _left_out(f, value)}
    if isinstance(value, Mapping):
        return {str(k): as_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def from_plain(
    kind: type[Record],
    content: Any,
    name: str = "",
    *,
    error: MakeError | None = None,
    strict: bool = False,
    ignore_unknown: bool = False,
) -> Record:
    """Return a dataclass from nested mappings and lists.

    Args:
        kind: the dataclass; its fields' types may name :class:`Limits`.
        content: field names to values; a part of it may be a record already.
        name: name of the record in messages; empty at the top.
        error: makes the error to raise, for example PolicyFileError; None for ConfigError and UnknownNameError.
        strict: content is a record that policykd wrote: all fields are there, except those of later versions (see
            :func:`added`), and numbers are finite. Otherwise it is a configuration: fields that are left out have their
            defaults, and numbers may be written as text, as YAML reads 3e-4.
        ignore_unknown: skip fields that the dataclass does not have, such as figures that derive from others.

    Raises:
        UnknownNameError: for a field that the dataclass does not have.
        ConfigError: for a missing field, or a value of the wrong type or out of range.
    """
    with _raising(error):
        return _Reader(strict, ignore_unknown).record(kind, content, name)


def typed(
    hint: Any,
    value: Any,
    name: str,
    *,
    error: MakeError | None = None,
    strict: bool = False,
    ignore_unknown: bool = False,
) -> Any:
    """Return a value in the type of its field.

    Args:
        hint: the type, resolved: a dataclass, a Literal, a tuple, a mapping, an optional type, ``Any``, a plain type,
            or one of them annotated with :class:`Limits`.
        value: value from JSON or YAML.
        name: name of the field in messages.
        error: as in :func:`from_plain`.
        strict: as in :func:`from_plain`.
        ignore_unknown: as in :func:`from_plain`.

    Raises:
        UnknownNameError: for a value that is not among the valid names.
        ConfigError: for a value of another type or out of range.
    """
    with _raising(error):
        return _Reader(strict, ignore_unknown).value(hint, value, name)


def versioned(content: Any, newest: int, what: str, *, error: MakeError = OutputError) -> dict[str, Any]:
    """Return a stored record after checking its ``format_version``.

    Args:
        content: parsed JSON.
        newest: newest format that can be read; the oldest is 1.
        what: name of the record in messages, for example ``the evaluation``.
        error: error to raise.

    Raises:
        OutputError: or ``error``, for content without a version, or of a version that cannot be read.
    """
    if not isinstance(content, Mapping) or "format_version" not in content:
        raise error(f"{what} is not a record of policykd: it has no format_version")
    version = content["format_version"]
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= newest:
        raise error(f"{what} has format {shown(version)}; this policykd reads 1 to {newest}: update policykd")
    return dict(content)


def content_sha256(content: Any) -> str:
    """Return the hash of JSON values, independent of spaces and of the order of the keys.

    Raises:
        ValueError: for NaN or infinity.
    """
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def shown(value: Any) -> str:
    """Return a wrong value as a message shows it: its beginning."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


@functools.cache  # resolving the names of all fields takes longer than reading a record
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _left_out(field: dataclasses.Field[Any], record: Any) -> bool:
    return bool(field.metadata.get(_ADDED)) and getattr(record, field.name) == field.default


@contextmanager
def _raising(error: MakeError | None) -> Iterator[None]:
    """Raise every error of the block as ``error``; None leaves them as they are."""
    try:
        yield
    except PolicykdError as problem:
        if error is None:
            raise
        raise error(str(problem)) from None


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads values in the types of their fields; see :func:`from_plain`."""

    strict: bool
    ignore_unknown: bool

    def record(self, kind: type[Any], content: Any, name: str) -> Any:
        if isinstance(content, kind):  # read already, under other rules
            return content
        if not isinstance(content, Mapping):
            raise ConfigError(f"{name or 'the file'} must be a mapping of field names to values; got {shown(content)}")
        hints = _hints(cast(type, kind))  # which mypy knows to be hashable
        fields = {f.name: f for f in dataclasses.fields(kind)}
        unknown = [str(key) for key in content if key not in fields]
        if unknown and not self.ignore_unknown:
            raise UnknownNameError(f"field of {name or 'the file'}:", unknown[0], fields)
        if missing := [key for key, field in fields.items() if key not in content and not self._may_lack(field)]:
            verb = "is" if len(missing) == 1 else "are"
            raise ConfigError(f"{name + '.' if name else ''}{', '.join(missing)} {verb} missing")
        given = {key: value for key, value in content.items() if key in fields}
        return kind(**{k: self.value(hints[k], v, f"{name}.{k}" if name else str(k)) for k, v in given.items()})

    def _may_lack(self, field: dataclasses.Field[Any]) -> bool:
        if self.strict:
            return bool(field.metadata.get(_ADDED))
        return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING

    def value(self, hint: Any, value: Any, name: str) -> Any:
        if hint is Any:
            return value
        origin, arguments = get_origin(hint), get_args(hint)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return self.record(hint, value, name)
        if origin is Annotated:
            return self._limited(arguments, value, name)
        if origin in (Union, types.UnionType):
            if value is None and type(None) in arguments:
                return None
            return self.value(next(a for a in arguments if a is not type(None)), value, name)
        if origin is tuple:
            return self._tuple(arguments, value, name)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return self._mapping(arguments, value, name)
        if origin is Literal:
            if value not in arguments:
                raise UnknownNameError(name, str(value), [str(a) for a in arguments])
            return value
        return self._number(value, name) if hint is float else _plain_value(hint, value, name)

    def _limited(self, arguments: tuple[Any, ...], value: Any, name: str) -> Any:
        found = self.value(arguments[0], value, name)
        for limits in arguments[1:]:
            if isinstance(limits, Limits):
                limits.check(name, found)
        return found

    def _tuple(self, arguments: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name} is {shown(value)}; it must be a list, for example [{str(value)[:_SHOWN]}]")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(self.value(arguments[0], v, f"{name}[{i}]") for i, v in enumerate(value))
        if len(value) != len(arguments):
            raise ConfigError(f"{name} has {len(value)} values; it must have {len(arguments)}")
        return tuple(self.value(a, v, f"{name}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))

    def _mapping(self, arguments: tuple[Any, ...], value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} is {shown(value)}; it must be a mapping of names to values")
        hint = arguments[1] if arguments else Any
        return {str(key): self.value(hint, entry, f"{name}.{key}") for key, entry in value.items()}

    def _number(self, value: Any, name: str) -> float:
        if isinstance(value, str) and not self.strict:
            return _float(value, name)  # YAML reads 3e-4 as text
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{name} is {shown(value)}; it must be of type float")
        if self.strict and not abs(value) < _LARGEST:
            raise ConfigError(f"{name} is {shown(value)}; it must be a finite number")
        try:
            return _not_nan(float(value), name)
        except OverflowError:
            raise ConfigError(f"{name} is {shown(value)}; it must be a number below 1e308") from None


def _plain_value(hint: type, value: Any, name: str) -> Any:
    if type(value) is not hint:
        raise ConfigError(f"{name} is {shown(value)}; it must be of type {hint.__name__}")
    return value


def _float(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"{name} is {shown(text)}; it must be a number") from None
    return _not_nan(value, name)


def _not_nan(value: float, name: str) -> float:
    if value != value:
        raise ConfigError(f"{name} is NaN; it must be a number")
    return value
