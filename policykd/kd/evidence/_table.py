"""Tables of saved results on real data: effects, corrected verdicts, and the effect that the seeds could have shown.

It reads results and trains nothing; ``benchmarks/kd_evidence.py`` writes the document.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.stats import t as student_t

from policykd.errors import ConfigError
from policykd.kd.benchmark.results import BenchResult
from policykd.kd.experiments.experiment import Comparison
from policykd.kd.experiments.results import Result
from policykd.storage import read_json

Decision = Literal["shown", "not shown", "contradicted"]
LEVEL, POWER = 0.05, 0.8


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for several tests by Holm (1979): the chance of any false rejection stays bounded."""
    order = np.argsort(p_values)
    corrected, largest = np.empty(len(p_values)), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, (len(p_values) - rank) * p_values[index])
        corrected[index] = min(1.0, largest)
    return [float(value) for value in corrected]


def detectable(differences: np.ndarray) -> float:
    """Return the effect that a two-sided t-test at 5 % finds with 80 % power, given the spread of paired differences.

    The approximation ``(t_(1 - level / 2) + t_power) s / sqrt(n)`` with n - 1 degrees of freedom.
    """
    count = len(differences)
    quantiles = student_t.ppf([1 - LEVEL / 2, POWER], count - 1)
    return float(quantiles.sum() * differences.std(ddof=1) / math.sqrt(count))


def _t_test(differences: np.ndarray) -> tuple[float, float, float]:
    """Return the ends of the 95 % interval of a mean, and the two-sided p-value of a mean of 0, by Student's t."""
    count, mean = len(differences), float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    half = float(student_t.ppf(1 - LEVEL / 2, count - 1)) * error
    p_value = 2.0 * float(student_t.sf(abs(mean) / error, count - 1)) if error > 0 else float(mean == 0)
    return mean - half, mean + half, p_value


@dataclass(frozen=True)
class Row:
    """One comparison of one result.

    Attributes:
        result: The result.
        comparison: The comparison.
        differences: Paired differences beyond the gate, in the claimed direction ``(seeds,)``.
        low: Lower end of the 95 % interval of the mean difference by Student's t.
        high: Upper end.
        p_value: Two-sided p-value of a mean difference of 0 by Student's t, before correction.
    """

    result: Result
    comparison: Comparison
    differences: np.ndarray
    low: float
    high: float
    p_value: float

    @classmethod
    def of(cls, result: Result, comparison: Comparison) -> Row:
        """Make the row of a comparison of differences.

        Raises:
            ConfigError: The comparison is a ratio, or there are fewer than five seeds.
        """
        if comparison.statistic != "difference" or len(result.seeds) < 5:
            raise ConfigError(f"{result.name}: tables need differences over at least 5 seeds, got {len(result.seeds)}")
        own = np.array(result.values[comparison.student][comparison.metric])
        if comparison.baseline is not None:
            own = own - np.array(result.values[comparison.baseline][comparison.metric])
        beyond = (own - comparison.gate) * (1.0 if comparison.better == "higher" else -1.0)
        return cls(result, comparison, beyond, *_t_test(beyond))

    def decide(self, corrected: float) -> Decision:
        """Return the verdict for a corrected p-value."""
        if corrected >= LEVEL:
            return "not shown"
        return "shown" if self.differences.mean() > 0 else "contradicted"


def load_results(folder: Path) -> list[Result]:
    """Read all results of a folder, in the order of their file names.

    Raises:
        ConfigError: There is none.
        OutputError: A file is damaged.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise ConfigError(f"{folder} holds no results; run `policykd kd run <system> --data <file>` first")
    return [Result.from_json(read_json(path)) for path in paths]


def decide_rows(results: Sequence[Result]) -> list[tuple[Row, float, Decision]]:
    """Return every comparison with its corrected p-value and verdict; the required ones are corrected together.

    Comparisons that no claim requires are corrected among themselves.
    """
    rows = [Row.of(result, comparison) for result in results for comparison in result.comparisons]
    decided: dict[int, float] = {}
    for required in (True, False):
        chosen = [k for k, row in enumerate(rows) if row.comparison.required == required]
        decided |= dict(zip(chosen, holm([rows[k].p_value for k in chosen]), strict=True))
    return [(row, decided[k], row.decide(decided[k])) for k, row in enumerate(rows)]


def draw_table(results: Sequence[Result]) -> str:
    """Return the table of all comparisons in Markdown."""
    lines = [
        "| system | data | seeds | comparison | effect [95 % interval] | could have shown | p, Holm | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row, corrected, verdict in decide_rows(results):
        sign = 1.0 if row.comparison.better == "higher" else -1.0
        ends = sorted((sign * row.low, sign * row.high))
        effect = f"{sign * row.differences.mean():+.4f} [{ends[0]:+.4f}, {ends[1]:+.4f}]"
        data = Path(str(row.result.config.get("data", ""))).stem
        marked = verdict if row.comparison.required else f"{verdict} (not required)"
        cells = (row.result.name, data, len(row.result.seeds), row.comparison.text, effect,
                 f"{detectable(row.differences):.4f}", f"{corrected:.3g}", marked)  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def draw_arms(results: Sequence[Result]) -> str:
    """Return one table of arms per result in Markdown: mean and standard deviation over the seeds."""
    parts = []
    for result in results:
        data = Path(str(result.config.get("data", ""))).stem
        metrics = list(dict.fromkeys(metric for own in result.values.values() for metric in own))
        parts += [f"### {result.title}: {data}", "", f"Claim: {result.claim}", ""]
        parts += [f"| arm | {' | '.join(metrics)} |", f"| --- |{' --- |' * len(metrics)}"]
        for arm, own in result.values.items():
            spread = [f"{np.mean(own[m]):.3f} ± {np.std(own[m], ddof=1):.3f}" if m in own else "" for m in metrics]
            parts.append(f"| {arm} | {' | '.join(spread)} |")
        parts += ["", *(f"- {note}" for note in result.notes), ""]
    return "\n".join(parts)


def draw_losses(result: BenchResult) -> str:
    """Return the losses of a benchmark against its baseline in Markdown, corrected by Holm over all of them."""
    baseline = np.array(result.values(result.baseline, "accuracy"))
    if len(baseline) < 5:
        raise ConfigError(f"tables need at least 5 seeds, got {len(baseline)}")
    names = [name for name in result.ranked() if name != result.baseline]
    gaps = {name: np.array(result.values(name, "accuracy")) - baseline for name in names}
    tests = {name: _t_test(gap) for name, gap in gaps.items()}
    corrected = dict(zip(names, holm([tests[name][2] for name in names]), strict=True))
    lines = [
        f"| loss | accuracy, % | against {result.baseline} [95 % interval] | could have shown | p, Holm | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in result.ranked():
        mean = f"{100 * np.mean(result.values(name, 'accuracy')):.2f}"
        if name == result.baseline:
            lines.append(f"| {name} | {mean} | | | | baseline |")
            continue
        low, high, _ = (100 * value for value in tests[name])
        gap = 100 * float(gaps[name].mean())
        sign = "not shown" if corrected[name] >= LEVEL else "better" if gap > 0 else "worse"
        effect = f"{gap:+.2f} [{low:+.2f}, {high:+.2f}]"
        cells = (name, mean, effect, f"{100 * detectable(gaps[name]):.2f}", f"{corrected[name]:.3g}", sign)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
