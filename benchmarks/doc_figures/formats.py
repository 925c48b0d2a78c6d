"""How figures are written in the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DASH = "\N{EN DASH}"

Bounds = Mapping[str, float] | Sequence[float]
"""An interval as it is stored: a mapping with estimate, low and high, or these three numbers."""


def bounds(stored: Bounds) -> tuple[float, float, float]:
    """Return estimate (or median), low and high of an interval or of the repeats of a measurement."""
    if isinstance(stored, Mapping):
        return tuple(stored[key] for key in _names(stored))  # type: ignore[return-value]
    return tuple(stored)  # type: ignore[return-value]


def _names(stored: Mapping[str, float]) -> tuple[str, ...]:
    for names in (("estimate", "low", "high"), ("median", "min", "max"), ("ratio", "least", "most")):
        if names[0] in stored:
            return names
    raise KeyError(f"not an interval: {sorted(stored)}")


def interval(stored: Bounds, digits: int = 2, to: str = DASH, unit: str = "") -> str:
    """Return ``0.98 (0.92-1.00)``, with ``to`` between the bounds."""
    middle, low, high = (f"{round(value, digits) + 0.0:,.{digits}f}" for value in bounds(stored))  # + 0.0: no -0.00
    return f"{middle}{unit} ({low}{to}{high})"


def spread(values: Sequence[float], digits: int, to: str = " to ") -> str:
    """Return the mean with the smallest and the largest value."""
    return interval((sum(values) / len(values), min(values), max(values)), digits, to)


def millions(steps: float, digits: int = 2) -> str:
    """Return ``0.49 M``."""
    return f"{steps / 1e6:.{digits}f} M"


def short(skill: str) -> str:
    """Return the terrain or the task of a skill's id: what the rows of a table are called."""
    robot, _, rest = skill.partition("/")
    return rest.partition("+")[0] or robot


def cells(evaluation: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return the summaries of a stored evaluation: (policy, skill) to summary."""
    return {(cell["policy"], cell["skill"]): cell["summary"] for cell in evaluation["cells"]}
