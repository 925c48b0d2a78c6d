"""Values that options may have, declared in signatures and checked when a loss is called or its module is built.

    @loss_function
    def kd(student, teacher, *, temperature: Temperature = 4.0, variant: Literal["paper", "code"] = "paper"): ...

A ``Literal`` allows its values, ``Annotated[kind, Rule(check)]`` what the check allows. Nothing here loads torch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from policykd.errors import ConfigError

Check = Callable[[str, Any], None]
"""Raises ConfigError for an option's name and value."""


@dataclass(frozen=True)
class Rule:
    """What an option must satisfy, as part of its annotation.

    Attributes:
        check: Called with the option's name and value; raises ConfigError for a value that is not allowed.
    """

    check: Check


def above_zero(name: str, value: float) -> None:
    """Raise ConfigError unless the value is above 0."""
    if not value > 0:
        raise ConfigError(f"{name} must be above 0, got {value!r}")


def finite_above_zero(name: str, value: float) -> None:
    """Raise ConfigError unless the value is finite and above 0."""
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{name} must be finite and above 0, got {value!r}")


def zero_to_one(*, with_zero: bool, with_one: bool) -> Check:
    """Return a check that the value is between 0 and 1.

    Args:
        with_zero: Whether 0 itself is allowed.
        with_one: Whether 1 itself is allowed.
    """
    interval = f"{'[' if with_zero else '('}0, 1{']' if with_one else ')'}"

    def check(name: str, value: float) -> None:
        if not (0 < value < 1 or (with_zero and value == 0) or (with_one and value == 1)):
            raise ConfigError(f"{name} must be in {interval}, got {value!r}")

    return check


Positive = Annotated[float, Rule(above_zero)]
Temperature = Annotated[float, Rule(finite_above_zero)]
OpenFraction = Annotated[float, Rule(zero_to_one(with_zero=False, with_one=False))]
"""Above 0 and below 1."""
half_open_fraction = zero_to_one(with_zero=True, with_one=False)
HalfOpenFraction = Annotated[float, Rule(half_open_fraction)]
"""At least 0 and below 1."""
ClosedFraction = Annotated[float, Rule(zero_to_one(with_zero=True, with_one=True))]
"""At least 0 and at most 1."""


def check_choice(name: str, given: object, known: tuple[Any, ...]) -> None:
    """Raise ConfigError unless `given` is one of `known`."""
    if given not in known:
        raise ConfigError(f"{name} must be one of {', '.join(map(str, known))}, got {given!r}")


def check_positive(**values: float) -> None:
    """Raise ConfigError for the first keyword whose value is not above 0."""
    for name, value in values.items():
        above_zero(name, value)


@functools.cache
def option_checks(function: Callable[..., Any]) -> Mapping[str, Check]:
    """Read the checks of a function's parameters from their annotations."""
    hints = get_type_hints(function, include_extras=True)
    return {name: check for name, hint in hints.items() if (check := _check_of(hint)) is not None}


def check_options(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first option whose value the function's annotations do not allow."""
    checks = option_checks(function)
    for name, value in options.items():
        if name in checks:
            checks[name](name, value)


def _check_of(hint: Any) -> Check | None:
    if get_origin(hint) is Literal:
        return lambda name, value: check_choice(name, value, get_args(hint))
    if get_origin(hint) is Annotated:
        rules = [extra.check for extra in hint.__metadata__ if isinstance(extra, Rule)]
        return rules[0] if rules else _check_of(hint.__origin__)
    return None
