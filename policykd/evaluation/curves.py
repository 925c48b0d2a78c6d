"""Figures of learning curves: steps to a score, and forward transfer as the area between two curves.

The functions take arrays of steps and scores, and read no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from policykd.errors import ConfigError, check_range

Curve = Sequence[tuple[float, float]]
"""(environment steps, score) of validations, steps rising."""


def curve_of(log: Sequence[dict[str, Any]], score: str = "reward_per_step") -> list[tuple[float, float]]:
    """Return the validation curve of a training log's rows."""
    return [(float(row["steps"]), float(row[score])) for row in log if "steps" in row and score in row]


def steps_to(curve: Curve, threshold: float) -> float | None:
    """Return the environment steps of the first validation that reaches a score; None if none does."""
    return next((steps for steps, score in curve if score >= threshold), None)


def area(curve: Curve, budget: float, *, start: float = 0.0) -> float:
    """Return the mean score over a budget: the normalized area under the curve.

    Args:
        curve: scores, at best 1; linear in between, and constant after the last (a run that stopped early).
        budget: steps over which it is averaged; later validations are left out.
        start: score before the first step.

    Raises:
        ConfigError: for an empty curve, steps that do not rise, or a budget below 1.
    """
    check_range("budget", budget, 1, 1e15, "environment steps")
    steps = np.array([0.0, *(s for s, _ in curve)])
    scores = np.array([start, *(x for _, x in curve)])
    if len(curve) == 0 or (np.diff(steps) <= 0).any():
        raise ConfigError("a learning curve must hold at least one validation, steps rising")
    x = np.minimum([*steps, budget], budget)
    return float(np.trapezoid(np.interp(x, steps, scores), x) / budget)


def forward_transfer(
    curve: Curve, scratch: Curve, budget: float, *, start: float = 0.0, scratch_start: float = 0.0
) -> float:
    """Return the forward transfer of an earlier policy (Wolczyk et al., Continual World, 2021).

    ``(AUC - AUC of scratch) / (1 - AUC of scratch)``: 0 no gain, 1 as good as possible from the first step, negative
    if the earlier policy slowed learning down.

    Args:
        curve: normalized scores of the training from an earlier policy.
        scratch: normalized scores of the training from new weights.
        budget: steps over which both are averaged.
        start: normalized score of the earlier policy before the first step.
        scratch_start: normalized score of new weights.

    Raises:
        ConfigError: for curves that :func:`area` refuses, or a scratch curve without room above it.
    """
    reference = area(scratch, budget, start=scratch_start)
    if reference >= 1:
        raise ConfigError(f"the area under the scratch curve is {reference:.3f}; there is no room for transfer above 1")
    return (area(curve, budget, start=start) - reference) / (1 - reference)
