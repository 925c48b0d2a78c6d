"""Errors of policykd. Messages name the wrong value, the valid choices and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PolicykdError(Exception):
    """Base class of all errors that policykd raises deliberately; the CLI prints them without a traceback."""


class UnknownNameError(PolicykdError, KeyError):
    """A name that is not in its registry."""

    def __init__(self, kind: str, name: str, choices: Iterable[str]) -> None:
        self.kind, self.name, self.choices = kind, name, sorted(choices)
        close = difflib.get_close_matches(name, self.choices, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        super().__init__(f"unknown {kind} '{name}'{hint} (valid: {', '.join(self.choices)})")

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, list[str]]]:
        return type(self), (self.kind, self.name, self.choices)  # errors travel between processes

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the repr, including the quotes


class ConfigError(PolicykdError, ValueError):
    """A configuration field with a value outside its range."""


class ShapeError(ValueError):
    """Tensors whose shapes do not fit one another, or a loss or layer that they are given to."""


class ContractError(PolicykdError, ValueError):
    """A policy, skill or dataset whose observation groups or actions do not match the others."""


class PolicyFileError(PolicykdError):
    """A policy file that is truncated, modified, of another kind or in a newer format."""


class DatasetError(PolicykdError):
    """A labeled dataset that is truncated, modified, of another kind or in a newer format."""


class NonFiniteError(PolicykdError):
    """An observation or a reward that is NaN or infinite, in an environment that should not return one."""


class OutputError(PolicykdError, OSError):
    """An output path that cannot be written; raised before the work starts."""


class MissingDependencyError(PolicykdError, ImportError):
    """An optional part (a Python extra or a system library) that is not installed."""


def check_range(field: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Raise ConfigError unless ``low <= value <= high``.

    Args:
        field: name of the field as the user wrote it.
        value: the given value.
        low: smallest allowed value.
        high: largest allowed value.
        unit: unit printed after the range.

    Raises:
        ConfigError: naming the field, the value and the allowed range; NaN is out of every range.
    """
    if not low <= value <= high:
        suffix = f" {unit}" if unit else ""
        raise ConfigError(f"{field} is {value}{suffix}; it must be in [{low}, {high}]{suffix}")
