"""Statistics of few, noisy scores: interquartile means, bootstrap intervals, paired comparisons.

Every function takes plain arrays and a seed, so that a table computed twice shows the same digits. References: Efron
and Tibshirani, An Introduction to the Bootstrap (1993), chapters 13 and 14; Agarwal et al., Deep Reinforcement
Learning at the Edge of the Statistical Precipice (2021), for the interquartile mean and the stratified bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from policykd.errors import ConfigError, UnknownNameError, check_range

Statistic = Literal["mean", "iqm"]
Method = Literal["percentile", "bca"]

BRACKETS = "{estimate} [{low}, {high}]"
"""Style of :func:`format_interval`: ``0.93 [0.85, 0.97]``."""

_CHUNK = 4_000_000  # values resampled at once, which bounds the memory


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval.

    Attributes:
        estimate: the statistic of the values themselves.
        low: lower end.
        high: upper end.
        confidence: nominal coverage, for example 0.95.
    """

    estimate: float
    low: float
    high: float
    confidence: float = 0.95

    @property
    def known(self) -> bool:
        """Whether the values show a spread; a single value, or equal ones, do not."""
        return self.high > self.low


def format_interval(
    interval: Interval | None,
    digits: int,
    *,
    style: str = "{estimate} ({low}\N{EN DASH}{high})",
    signed: bool = False,
    significant: bool = False,
    scale: float = 1.0,
    always: bool = False,
) -> str:
    """Return an interval as text, for example ``0.93 (0.85-0.97)``.

    Args:
        interval: the interval; None gives a dash.
        digits: digits after the decimal point.
        style: template with ``estimate``, ``low`` and ``high``.
        signed: write a sign before positive numbers.
        significant: ``digits`` counts significant digits.
        scale: factor on the three numbers, for example 100 for percentages.
        always: use the template also where the interval is a point; otherwise the estimate stands alone there.
    """
    if interval is None:
        return "-"
    form = f"{'+' if signed else ''}.{digits}{'g' if significant else 'f'}"
    estimate, low, high = (format(scale * x, form) for x in (interval.estimate, interval.low, interval.high))
    return style.format(estimate=estimate, low=low, high=high) if always or interval.known else estimate


def iqm(values: ArrayLike, axis: int = -1) -> np.ndarray:
    """Return the interquartile mean: the mean without the lowest and the highest quarter.

    Args:
        values: any shape; with fewer than four values along the axis, none is left out.
        axis: axis that is averaged.

    Returns:
        The values' shape without the axis.
    """
    ordered = np.sort(np.asarray(values, dtype=float), axis=axis)
    n = ordered.shape[axis]
    return np.take(ordered, np.arange(n // 4, n - n // 4), axis=axis).mean(axis=axis)


def _mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    return values.mean(axis=axis)


_STATISTICS: dict[str, Callable[..., np.ndarray]] = {"mean": _mean, "iqm": iqm}


def bootstrap(
    values: ArrayLike,
    *,
    statistic: Statistic = "mean",
    method: Method = "bca",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return a bootstrap interval of the mean or the interquartile mean of independent values.

    Args:
        values: (n,) finite values.
        statistic: ``mean`` or ``iqm``.
        method: ``percentile``, or ``bca``, which corrects it for bias and skew.
        confidence: nominal coverage in (0, 1).
        resamples: number of bootstrap samples, >= 100.
        seed: seed of the resampling.

    Returns:
        The interval; a point where all values are equal, since resampling cannot show a spread there.

    Raises:
        ConfigError: for no value, values that are not finite, or options out of range.
        UnknownNameError: for an unknown statistic or method.
    """
    sample = _checked(values, confidence, resamples)
    measure = _statistic(statistic)
    if method not in ("percentile", "bca"):
        raise UnknownNameError("bootstrap method", method, ("percentile", "bca"))
    estimate = float(measure(sample))
    distribution = _resampled(sample[:, None], resamples, seed, lambda rows: measure(rows[:, :, 0]))
    tails = _tails(confidence)
    if method == "bca":
        tails = _corrected_tails(tails, sample, measure, estimate, distribution)
    return _interval(estimate, distribution, tails, confidence)


def stratified_bootstrap(
    scores: ArrayLike,
    *,
    statistic: Statistic = "iqm",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the percentile interval of a statistic over all seeds and tasks; seeds are resampled within each task.

    Args:
        scores: (seeds, tasks) scores, normalized so that tasks can be averaged.
        statistic: ``mean`` or ``iqm``, over all scores at once.
        confidence: nominal coverage in (0, 1).
        resamples: number of bootstrap samples, >= 100.
        seed: seed of the resampling.

    Raises:
        ConfigError: for scores that are not a finite matrix, or options out of range.
        UnknownNameError: for an unknown statistic.
    """
    matrix = _checked(scores, confidence, resamples, dimensions=2)
    measure = _statistic(statistic)
    rng = np.random.default_rng(seed)
    distribution = np.concatenate(
        [
            measure(_strata(matrix, rng, size).reshape(size, -1))
            for size in _chunks(resamples, max(1, _CHUNK // matrix.size))
        ]
    )
    return _interval(float(measure(matrix.ravel())), distribution, _tails(confidence), confidence)


def paired_difference(
    first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return a bootstrap interval of ``mean(first - second)``, both measured on the same cases.

    Args:
        first: (n,) values.
        second: (n,) values of the same cases in the same order.
        confidence: nominal coverage in (0, 1).
        resamples: number of bootstrap samples, >= 100.
        seed: seed of the resampling.

    Raises:
        ConfigError: for values that are not finite pairs, or options out of range.
    """
    pairs = _checked_pairs(first, second, confidence, resamples)
    differences = pairs[:, 0] - pairs[:, 1]
    return bootstrap(differences, confidence=confidence, resamples=resamples, seed=seed)


def paired_ratio(
    first: ArrayLike,
    second: ArrayLike,
    *,
    signed: bool = False,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the percentile interval of ``mean(first) / mean(second)``, both measured on the same cases.

    Args:
        first: (n,) values.
        second: (n,) values of the same cases in the same order, >= 0 with a positive mean.
        signed: allow single negative values of ``second``; its mean must still be positive.
        confidence: nominal coverage in (0, 1).
        resamples: number of bootstrap samples, >= 100.
        seed: seed of the resampling.

    Raises:
        ConfigError: for values that are not finite pairs, a denominator that is negative or can become 0, a ratio that
            no float can hold, or options out of range.
    """
    pairs = _checked_pairs(first, second, confidence, resamples)
    if (not signed and (pairs[:, 1] < 0).any()) or pairs[:, 1].mean() <= 0:
        raise ConfigError("the denominator of a ratio must be >= 0 with a positive mean")
    means = _resampled(pairs, resamples, seed, lambda rows: rows.mean(axis=1))
    if (means[:, 1] <= 0).any():
        raise ConfigError("the denominator of the ratio is 0 in nearly every case; its interval is unbounded")
    with np.errstate(over="ignore"):
        ratio, ratios = float(pairs[:, 0].mean() / pairs[:, 1].mean()), means[:, 0] / means[:, 1]
    if not (np.isfinite(ratio) and np.isfinite(ratios).all()):
        raise ConfigError("the ratio is larger than a float can hold: its denominator is nearly 0")
    return _interval(ratio, ratios, _tails(confidence), confidence)


def nested_ratio(
    first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the percentile interval of ratios of means, averaged over runs and tasks, over runs and cases at once.

    A ratio is ``mean(first) / mean(second)`` over the cases of one run and task. Every bootstrap sample draws runs with
    replacement, and cases with replacement within every task of every drawn run; both are measured on the same cases.

    Args:
        first: (runs, tasks, cases) values.
        second: (runs, tasks, cases) values of the same cases, >= 0 with a positive mean for every run and task.
        confidence: nominal coverage in (0, 1).
        resamples: number of bootstrap samples, >= 100.
        seed: seed of the resampling.

    Raises:
        ConfigError: for values that are not finite or have other shapes, a denominator that is negative or can become
            0, or options out of range.
    """
    a, b = (_checked(values, confidence, resamples, dimensions=3) for values in (first, second))
    if a.shape != b.shape:
        raise ConfigError(f"both values of a ratio need the same runs, tasks and cases; got {a.shape} and {b.shape}")
    if (b < 0).any() or (b.mean(axis=2) <= 0).any():
        raise ConfigError("the denominator of a ratio must be >= 0 with a positive mean for every run and task")
    rng, (runs, tasks, cases) = np.random.default_rng(seed), a.shape
    task, chunk, ratios = np.arange(tasks)[:, None], max(1, _CHUNK // a.size), []
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        run = rng.integers(0, runs, (size, runs, 1, 1))
        case = rng.integers(0, cases, (size, *a.shape))
        above, below = (values[run, task, case].mean(axis=3) for values in (a, b))
        if (below <= 0).any():
            raise ConfigError("the denominator of the ratio is 0 in nearly every case; its interval is unbounded")
        ratios.append((above / below).mean(axis=(1, 2)))
    estimate = float((a.mean(axis=2) / b.mean(axis=2)).mean())
    return _interval(estimate, np.concatenate(ratios), _tails(confidence), confidence)


def probability_of_improvement(
    first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the probability that a random run of the first method beats one of the second, averaged over tasks.

    Ties count half.

    Args:
        first: (seeds, tasks) scores of the first method.
        second: (other seeds, tasks) scores of the second method.
        confidence: nominal coverage in (0, 1).
        resamples: number of stratified bootstrap samples, >= 100.
        seed: seed of the resampling.

    Raises:
        ConfigError: for scores that are not finite matrices with equal numbers of tasks, or options out of range.
    """
    x, y = (_checked(scores, confidence, resamples, dimensions=2) for scores in (first, second))
    if x.shape[1] != y.shape[1]:
        raise ConfigError(f"the methods have {x.shape[1]} and {y.shape[1]} tasks; both need scores on the same tasks")

    def wins(a: np.ndarray, b: np.ndarray) -> float:
        return float((np.sign(a[:, None] - b[None]).mean() + 1) / 2)

    rng = np.random.default_rng(seed)
    distribution = np.array([wins(_strata(x, rng)[0], _strata(y, rng)[0]) for _ in range(resamples)])
    return _interval(wins(x, y), distribution, _tails(confidence), confidence)


def proportion(outcomes: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Return the interval of a success rate by Wilson (1927), as Newcombe (1998) writes it.

    For 64 successes out of 64, a bootstrap would give [1, 1]; this interval is [0.94, 1].

    Args:
        outcomes: (n,) booleans.
        confidence: nominal coverage in (0, 1).

    Raises:
        ConfigError: for no outcome, or a confidence out of range.
    """
    sample = _checked(np.asarray(outcomes, dtype=bool), confidence)
    k, n, z = int(sample.sum()), len(sample), float(special.ndtri(0.5 + confidence / 2))
    rate, scale = k / n, 2 * (n + z**2)
    middle, half = (2 * n * rate + z**2) / scale, z / scale * float(np.sqrt(4 * n * rate * (1 - rate) + z**2))
    # without a success, or without a failure, rounding would miss the end
    return Interval(rate, middle - half if k else 0.0, middle + half if k < n else 1.0, confidence)


ENOUGH_SEEDS = 5
"""Number of seeds below which intervals over seeds are too narrow to be trusted (Agarwal et al., 2021)."""


def few_seeds(seeds: int) -> str:
    """Return a warning for tables made of few seeds; empty from five seeds on.

    Args:
        seeds: number of independent runs.
    """
    if seeds >= ENOUGH_SEEDS:
        return ""
    if seeds == 1:
        return "only 1 seed: the spread over seeds is unknown"
    return f"only {seeds} seeds: intervals over fewer than {ENOUGH_SEEDS} seeds cover the truth less often than stated"


def _statistic(name: str) -> Callable[..., np.ndarray]:
    if name not in _STATISTICS:
        raise UnknownNameError("statistic", name, _STATISTICS)
    return _STATISTICS[name]


def _checked(values: ArrayLike, confidence: float, resamples: int = 100, dimensions: int = 1) -> np.ndarray:
    check_range("confidence", confidence, 0.01, 0.9999)
    check_range("resamples", resamples, 100, 10_000_000)
    array = np.asarray(values, dtype=float)
    if array.ndim != dimensions or array.size == 0 or not np.isfinite(array).all():
        raise ConfigError(f"values must be finite, at least one, with {dimensions} axes; got shape {array.shape}")
    return array


def _checked_pairs(first: ArrayLike, second: ArrayLike, confidence: float, resamples: int) -> np.ndarray:
    a, b = (_checked(values, confidence, resamples) for values in (first, second))
    if len(a) != len(b):
        raise ConfigError(f"paired values must have equal lengths; got {len(a)} and {len(b)}")
    return np.stack([a, b], axis=1)


def _resampled(rows: np.ndarray, resamples: int, seed: int, measure: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the measure of samples drawn from (n, k) rows with replacement; it maps (chunk, n, k) to (chunk, ...)."""
    rng, n = np.random.default_rng(seed), len(rows)
    sizes = _chunks(resamples, max(1, _CHUNK // rows.size))
    return np.concatenate([measure(rows[rng.integers(0, n, (size, n))]) for size in sizes])


def _chunks(resamples: int, chunk: int) -> list[int]:
    """Return how many samples to draw at a time, so that few are in memory."""
    return [min(chunk, resamples - start) for start in range(0, resamples, chunk)]


def _strata(matrix: np.ndarray, rng: np.random.Generator, size: int = 1) -> np.ndarray:
    """Return ``size`` samples ``(size, rows, columns)``; each resamples the rows of every column independently."""
    rows = rng.integers(0, len(matrix), (size, *matrix.shape))
    return np.take_along_axis(matrix[None], rows, axis=1)


def _tails(confidence: float) -> np.ndarray:
    return np.array([0.5 - confidence / 2, 0.5 + confidence / 2])


def _interval(estimate: float, distribution: np.ndarray, tails: np.ndarray, confidence: float) -> Interval:
    low, high = np.quantile(distribution, tails)
    return Interval(estimate, float(low), float(high), confidence)


def _corrected_tails(
    tails: np.ndarray,
    sample: np.ndarray,
    measure: Callable[..., np.ndarray],
    estimate: float,
    distribution: np.ndarray,
) -> np.ndarray:
    """Return the quantiles of the BCa interval (Efron and Tibshirani, equation 14.10)."""
    below = ((distribution < estimate).mean() + (distribution <= estimate).mean()) / 2
    n = len(sample)
    if n < 2 or np.ptp(sample) == 0 or not 0 < below < 1:
        return tails
    left_out = measure(np.broadcast_to(sample, (n, n))[~np.eye(n, dtype=bool)].reshape(n, n - 1))
    spread = left_out.mean() - left_out
    scale = (spread**2).sum() ** 1.5
    acceleration = (spread**3).sum() / (6 * scale) if scale > 0 else 0.0
    bias = special.ndtri(below)
    shifted = bias + special.ndtri(tails)
    return special.ndtr(bias + shifted / (1 - acceleration * shifted))
