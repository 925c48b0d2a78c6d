"""Decisions: effects of paired comparisons by Student's t, and Holm's correction of the tests that are made together.

It reads numbers of finished runs and trains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from policykd.errors import ConfigError
from policykd.kd.experiments.experiment import Comparison, Verdict
from policykd.stats import Interval

LEVEL = 0.05
"""Chance of a wrong decision that the comparisons of one family share."""


def contrast(comparison: Comparison, values: Mapping[str, Mapping[str, Sequence[float]]]) -> np.ndarray:
    """Return per seed by how much the effect exceeds the gate in the claimed direction ``(seeds,)``.

    A ratio above its gate is the difference ``student - gate * baseline`` above 0, which has the metric's unit.

    Args:
        comparison: The comparison.
        values: Arm -> metric -> one value per seed.
    """
    own, other = arms_of(comparison, values)
    beyond = own - comparison.gate * other if comparison.statistic == "ratio" else own - other - comparison.gate
    return beyond if comparison.better == "higher" else -beyond


def arms_of(
    comparison: Comparison, values: Mapping[str, Mapping[str, Sequence[float]]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a comparison's two arms ``(seeds,)``; zeros where it has no baseline."""
    own = np.asarray(values[comparison.student][comparison.metric], dtype=float)
    if comparison.baseline is None:
        return own, np.zeros_like(own)
    return own, np.asarray(values[comparison.baseline][comparison.metric], dtype=float)


def effect_of(comparison: Comparison, values: Mapping[str, Mapping[str, Sequence[float]]]) -> Interval:
    """Return the mean effect of a comparison with its 95 % interval by Student's t, Fieller's for a ratio.

    The interval excludes the gate exactly where :func:`p_value` of the contrast is below 5 %.

    Raises:
        ConfigError: The denominator of a ratio cannot be told from 0, so its interval is unbounded.
    """
    own, other = arms_of(comparison, values)
    if comparison.statistic == "ratio":
        try:
            return fieller(own, other)
        except ConfigError as error:
            raise ConfigError(f"{comparison.metric} of {' and '.join(comparison.arms)}: {error}") from None
    return mean_interval(own - other)


def mean_interval(values: ArrayLike, *, together: int = 1) -> Interval:
    """Return the mean of independent values ``(n,)`` with its interval by Student's t; a point for n = 1.

    Args:
        values: The values.
        together: Number of intervals that cover their means together with a probability of 95 % (Bonferroni).
    """
    sample = np.asarray(values, dtype=float)
    mean, level = float(sample.mean()), LEVEL / together
    half = 0.0 if len(sample) < 2 else float(stdtrit(len(sample) - 1, 1 - level / 2)) * _error(sample)
    return Interval(mean, mean - half, mean + half, 1 - level)


def fieller(numerator: ArrayLike, denominator: ArrayLike) -> Interval:
    """Return the ratio of the means of paired values ``(n,)`` with its 95 % interval by Fieller (1954).

    Raises:
        ConfigError: The denominator's mean cannot be told from 0.
    """
    a, b = (np.asarray(values, dtype=float) for values in (numerator, denominator))
    if b.mean() == 0:
        raise ConfigError("the denominator of the ratio is 0")
    ratio, count = float(a.mean() / b.mean()), len(a)
    if count < 2:
        return Interval(ratio, ratio, ratio, 1 - LEVEL)
    covariance = np.cov(a, b) * float(stdtrit(count - 1, 1 - LEVEL / 2)) ** 2 / count
    square = float(b.mean() ** 2 - covariance[1, 1])
    if square <= 0:
        raise ConfigError("the denominator of the ratio cannot be told from 0; its interval is unbounded")
    middle = float(a.mean() * b.mean() - covariance[0, 1])
    root = math.sqrt(max(0.0, middle**2 - square * float(a.mean() ** 2 - covariance[0, 0])))
    return Interval(ratio, (middle - root) / square, (middle + root) / square, 1 - LEVEL)


def p_value(differences: ArrayLike) -> float:
    """Return the two-sided p-value of a mean of 0 by Student's t; equal values decide with certainty."""
    sample = np.asarray(differences, dtype=float)
    mean, error = float(sample.mean()), _error(sample)
    if len(sample) < 2 or error <= 1e-12 * abs(mean):
        return float(mean == 0)
    return 2.0 * float(stdtr(len(sample) - 1, -abs(mean) / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for several tests by Holm (1979): the chance of any false rejection stays bounded."""
    order = np.argsort(p_values)
    corrected, largest = np.empty(len(p_values)), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, (len(p_values) - rank) * p_values[index])
        corrected[index] = min(1.0, largest)
    return [float(value) for value in corrected]


def correct(comparisons: Sequence[Comparison], p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected by Holm: the required comparisons together, and the others among themselves."""
    decided: dict[int, float] = {}
    for required in (True, False):
        chosen = [place for place, one in enumerate(comparisons) if one.required == required]
        decided |= dict(zip(chosen, holm([p_values[place] for place in chosen]), strict=True))
    return [decided[place] for place in range(len(comparisons))]


def decide(beyond: ArrayLike, corrected: float) -> Verdict:
    """Return the verdict of a contrast, see :func:`contrast`, with its corrected p-value."""
    if corrected >= LEVEL:
        return "not shown"
    return "shown" if np.asarray(beyond, dtype=float).mean() > 0 else "contradicted"


def _error(sample: np.ndarray) -> float:
    """Return the standard error of a mean; 0 for one value, and for values that only differ by rounding."""
    return 0.0 if len(sample) < 2 or np.ptp(sample) == 0 else float(sample.std(ddof=1)) / math.sqrt(len(sample))
