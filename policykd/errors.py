"""Errors that name what was wrong, the valid choices and the fix. Every part of policykd raises these."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PolicykdError(Exception):
    """Base of every error that policykd raises on purpose; the CLI prints it without a traceback."""


class UnknownNameError(PolicykdError, KeyError):
    """A name that a registry does not hold."""

    def __init__(self, kind: str, name: str, choices: Iterable[str]) -> None:
        self.kind, self.name, self.choices = kind, name, sorted(choices)
        close = difflib.get_close_matches(name, self.choices, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        super().__init__(f"unknown {kind} '{name}'{hint} (valid: {', '.join(self.choices)})")

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, list[str]]]:
        return type(self), (self.kind, self.name, self.choices)  # errors travel between processes

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the repr, quotes and all


class ConfigError(PolicykdError, ValueError):
    """A configuration field with a value outside its range."""


class ContractError(PolicykdError, ValueError):
    """A policy, skill or dataset whose observation groups or actions do not match."""


class PolicyFileError(PolicykdError):
    """A policy file that is truncated, tampered with, foreign or from a newer format."""


class DatasetError(PolicykdError):
    """A labeled dataset that is truncated, tampered with, foreign or from a newer format."""


class OutputError(PolicykdError, OSError):
    """An output place that cannot be written; raised before the work starts."""


class MissingDependencyError(PolicykdError, ImportError):
    """An optional part (a Python extra or a system library) that is not installed."""


def check_range(field: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Raise ConfigError unless ``low <= value <= high``.

    Args:
        field: the field's name as the user wrote it.
        value: what was given.
        low: smallest allowed value.
        high: largest allowed value.
        unit: unit printed behind the range.

    Raises:
        ConfigError: naming the field, the value and the allowed range (NaN fails, too).
    """
    if not low <= value <= high:
        suffix = f" {unit}" if unit else ""
        raise ConfigError(f"{field} is {value}{suffix}; it must lie in [{low}, {high}]{suffix}")
