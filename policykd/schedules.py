"""Schedules: the value of a beta, a loss weight or a temperature over the course of a run.

A schedule is a frozen record that is called with the position in the run, ``schedule(step, total)``: `step` counts
rounds, epochs or updates from 0 (the caller chooses the unit), `total` is the run's length in the same unit. Schedules
over a fraction of the run need `total`; those that count steps ignore it. `parse` reads the short form used in recipes
and on the command line: ``"0.5"``, ``"exponential:0.7"``, ``"linear:1,0,over=0.5"``.

This module needs the standard library and `policykd.errors` only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from policykd.errors import UnknownNameError

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "Linear",
    "PlaidCode",
    "PlaidPaper",
    "Ramp",
    "Schedule",
    "Step",
    "available",
    "parse",
]


@runtime_checkable
class Schedule(Protocol):
    """Function from a position in the run to a number."""

    def __call__(self, step: float, total: float | None = None) -> float:
        """Return the value at `step` of a run of `total` steps."""
        ...


def _check_step(step: float) -> float:
    if not (step >= 0 and math.isfinite(step)):
        raise ValueError(f"step must be finite and at least 0, got {step!r}")
    return step


def _fraction(schedule: object, step: float, total: float | None) -> float:
    """Return the position in the run, clipped to [0, 1]."""
    if total is None or not total > 0:
        raise ValueError(f"{type(schedule).__name__} works on a fraction of the run: give total > 0, got {total!r}")
    return min(1.0, _check_step(step) / total)


def _require_finite(schedule: object, *names: str) -> None:
    for name in names:
        value = getattr(schedule, name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{type(schedule).__name__}.{name} must be a finite number, got {value!r}")


def _require_share(schedule: object, name: str) -> None:
    _require_finite(schedule, name)
    if not 0.0 < getattr(schedule, name) <= 1.0:
        raise ValueError(f"{type(schedule).__name__}.{name} must be in (0, 1], got {getattr(schedule, name)!r}")


@dataclass(frozen=True)
class Constant:
    """Constant value."""

    value: float = 1.0

    def __post_init__(self) -> None:
        _require_finite(self, "value")

    def __call__(self, step: float, total: float | None = None) -> float:
        """Return `value`."""
        _check_step(step)
        return self.value


@dataclass(frozen=True)
class Linear:
    """Straight line from `start` to `end` over the first `over` (a share) of the run, then `end`."""

    start: float = 1.0
    end: float = 0.0
    over: float = 1.0

    def __post_init__(self) -> None:
        _require_finite(self, "start", "end")
        _require_share(self, "over")

    def __call__(self, step: float, total: float | None = None) -> float:
        """Return the value at ``step / total``."""
        share = min(1.0, _fraction(self, step, total) / self.over)
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True)
class Exponential:
    """``max(floor, start * rate**step)``; DAgger's decaying mixture has rate 0.7 and counts rounds."""

    rate: float = 0.7
    start: float = 1.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        _require_finite(self, "rate", "start", "floor")
        if not self.rate > 0:
            raise ValueError(f"Exponential.rate must be above 0, got {self.rate!r}")

    def __call__(self, step: float, total: float | None = None) -> float:
        """Return the value after `step` steps."""
        return max(self.floor, self.start * self.rate ** _check_step(step))


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `start` to `end` over the first `over` (a share) of the run, then `end`."""

    start: float = 1.0
    end: float = 0.0
    over: float = 1.0

    def __post_init__(self) -> None:
        _require_finite(self, "start", "end")
        _require_share(self, "over")

    def __call__(self, step: float, total: float | None = None) -> float:
        """Return the value at ``step / total``."""
        share = min(1.0, _fraction(self, step, total) / self.over)
        return self.end + (self.start - self.end) * 0.5 * (1.0 + math.cos(math.pi * share))


@dataclass(frozen=True)
class Ramp:
    """Straight line from `start` to `end` within the first `steps` steps, then `end` (a loss's warm-up)."""

    start: float = 0.0
    end: float = 1.0
    steps: float = 20.0

    def __post_init__(self) -> None:
        _require_finite(self, "start", "end", "steps")
        if not self.steps > 0:
            raise ValueError(f"Ramp.steps must be above 0, got {self.steps!r}")

    def __call__(self, step: float, total: float | None = None) -> float:
        """Return the value after `step` steps."""
        share = min(1.0, _check_step(step) / self.steps)
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True)
class Step:
    """`start` until step `at`, `end` from there on (``Step(1, 0, at=1)`` is DAgger's expert-first-round-only)."""

    start: float = 1.0
    end: float = 0.0
    at: float = 1.0

    def __post_init__(self) -> None:
        _require_finite(self, "start", "end", "at")

    def __call__(self, step: float, total: float | None = None) -> float:
        """Return the value at `step`."""
        return self.start if _check_step(step) < self.at else self.end


@dataclass(frozen=True)
class PlaidPaper:
    """PLAID as described in the paper: the expert's share of actions falls from 1 to about zero within 10 000 updates.

    The paper gives the end and the length, not the curve; the straight line is our choice. `step` counts updates.
    """

    updates: float = 10_000.0

    def __post_init__(self) -> None:
        _require_finite(self, "updates")
        if not self.updates > 0:
            raise ValueError(f"PlaidPaper.updates must be above 0, got {self.updates!r}")

    def __call__(self, step: float, total: float | None = None) -> float:
        """Return the expert's share after `step` updates."""
        return max(0.0, 1.0 - _check_step(step) / self.updates)


@dataclass(frozen=True)
class PlaidCode:
    """PLAID as configured in its released code: ``max(floor, (1 - ln(1 + d))**2)`` with ``d = step / total``.

    1.00, 0.60, 0.35, 0.20 at d = 0, 1/4, 1/2, 3/4. The released program does not follow its own setting: because of a
    line marked as debugging, the expert always acts. `forced_expert` reproduces this (the value is then always 1).
    """

    floor: float = 0.2
    forced_expert: bool = False

    def __post_init__(self) -> None:
        _require_finite(self, "floor")
        if not 0.0 <= self.floor <= 1.0:
            raise ValueError(f"PlaidCode.floor must be in [0, 1], got {self.floor!r}")
        if self.forced_expert not in (0, 1):
            raise ValueError(f"PlaidCode.forced_expert must be true or false, got {self.forced_expert!r}")

    def __call__(self, step: float, total: float | None = None) -> float:
        """Return the expert's share at ``step / total``."""
        if self.forced_expert:
            _check_step(step)
            return 1.0
        return max(self.floor, (1.0 - math.log1p(_fraction(self, step, total))) ** 2)


_KINDS: Mapping[str, type] = MappingProxyType(
    {
        "constant": Constant,
        "linear": Linear,
        "exponential": Exponential,
        "cosine": Cosine,
        "ramp": Ramp,
        "step": Step,
        "plaid_paper": PlaidPaper,
        "plaid_code": PlaidCode,
    }
)


def available() -> tuple[str, ...]:
    """Return the names that `parse` knows."""
    return tuple(_KINDS)


def parse(text: str | float) -> Schedule:
    """Read a schedule from its short form ``name:value,value,field=value``; a bare number is a constant.

    Values fill the record's fields in order, or by name.

    Raises:
        UnknownNameError: for an unknown name or field; close matches are named.
        ValueError: for a value that is not a number or out of range, or too many values.
    """
    if isinstance(text, int | float):
        return Constant(float(text))
    name, _, rest = text.strip().partition(":")
    if (number := _number(name)) is not None and not rest:
        return Constant(number)
    key = name.strip().lower().replace("-", "_")
    if key not in _KINDS:
        raise UnknownNameError("schedule", name, _KINDS)
    kind = _KINDS[key]
    return kind(**_arguments(name, rest, [field.name for field in fields(kind)]))


def _arguments(name: str, rest: str, known: list[str]) -> dict[str, float]:
    arguments: dict[str, float] = {}
    for place, part in enumerate(piece.strip() for piece in rest.split(",") if piece.strip()):
        left, has_name, right = part.partition("=")
        if not has_name and place >= len(known):
            raise ValueError(f"schedule {name!r} takes at most {len(known)} values ({', '.join(known)}), got {rest!r}")
        field = left.strip() if has_name else known[place]
        if field not in known:
            raise UnknownNameError(f"field of schedule {name!r}:", field, known)
        if field in arguments:
            raise ValueError(f"schedule {name!r} got {field} twice in {rest!r}")
        if (value := _number(right if has_name else left)) is None:
            raise ValueError(f"schedule {name!r} needs a number for {field}, got {part!r}")
        arguments[field] = value
    return arguments


def _number(text: str) -> float | None:
    words = {"true": "1", "false": "0"}
    try:
        return float(words.get(text.strip().lower(), text))
    except ValueError:
        return None
