"""Tables of saved results on real data: effects, corrected verdicts, and the effect that the seeds could have shown.

It reads results and trains nothing; ``benchmarks/kd_evidence.py`` writes the document.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from policykd.errors import ConfigError
from policykd.kd.experiments.decisions import arms_of, holm
from policykd.kd.experiments.power import smallest_effect
from policykd.kd.experiments.results import LEAST_SEEDS, Outcome, Result
from policykd.kd.experiments.summary import effect_text, gate_text
from policykd.storage import read_json

_HEAD = (
    "system", "data", "seeds", "claim", "effect [95 % interval]", "gate", "could have shown",
    "p, Holm in the system", "p, Holm over all", "verdict",
)  # fmt: skip


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


def detectable(result: Result, outcome: Outcome) -> float:
    """Return the effect beyond the gate that the seeds of a result show with 80 % power, given their spread.

    For a ratio, the effect is the difference ``student - gate * baseline``.
    """
    own, other = arms_of(outcome.comparison, result.values)
    factor = outcome.comparison.gate if outcome.comparison.statistic == "ratio" else 1.0
    family = sum(one.required == outcome.comparison.required for one in result.comparisons)
    spread = float((own - factor * other).std(ddof=1))
    return smallest_effect(spread, len(own), comparisons=family)


def corrected_over_all(results: Sequence[Result]) -> list[list[float]]:
    """Return the p-values of every result's comparisons, corrected by Holm over all results.

    The required comparisons of all results are one family, the others another.

    Raises:
        ConfigError: A result has fewer than five seeds.
    """
    for result in results:
        if len(result.seeds) < LEAST_SEEDS:
            raise ConfigError(f"{result.name}: tables need at least {LEAST_SEEDS} seeds, got {len(result.seeds)}")
    found = [[0.0] * len(result.outcomes) for result in results]
    for required in (True, False):
        places = [
            (row, column)
            for row, result in enumerate(results)
            for column, outcome in enumerate(result.outcomes)
            if outcome.comparison.required == required
        ]
        together = holm([results[row].outcomes[column].p_value for row, column in places])
        for (row, column), value in zip(places, together, strict=True):
            found[row][column] = value
    return found


def draw_table(results: Sequence[Result]) -> str:
    """Return the table of all comparisons in Markdown."""
    real = any("data" in result.config for result in results)
    head = [name for name in _HEAD if real or name != "data"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for result, over_all in zip(results, corrected_over_all(results), strict=True):
        data = Path(str(result.config.get("data", ""))).stem
        for outcome, together in zip(result.outcomes, over_all, strict=True):
            verdict = outcome.verdict if outcome.comparison.required else f"{outcome.verdict} (not required)"
            shown, gate = effect_text(outcome), gate_text(outcome)
            numbers = (f"{value:.2g}" for value in (detectable(result, outcome), outcome.corrected, together))
            first = (result.name, data, len(result.seeds)) if real else (result.name, len(result.seeds))
            cells = (*first, outcome.comparison.text, shown, gate, *numbers, verdict)
            lines.append(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def draw_arms(results: Sequence[Result]) -> str:
    """Return one table of arms per result in Markdown: mean and standard deviation over the seeds."""
    parts = []
    for result in results:
        data = Path(str(result.config.get("data", ""))).stem
        metrics = list(dict.fromkeys(metric for own in result.values.values() for metric in own))
        parts += [f"### {result.title}{f': {data}' if data else ''}", "", f"Claim: {result.claim}", ""]
        parts += [f"| arm | {' | '.join(metrics)} |", f"| --- |{' --- |' * len(metrics)}"]
        for arm, own in result.values.items():
            spread = [f"{np.mean(own[m]):.3f} ± {np.std(own[m], ddof=1):.3f}" if m in own else "" for m in metrics]
            parts.append(f"| {arm} | {' | '.join(spread)} |")
        parts += ["", *(f"- {note}" for note in result.notes), ""]
    return "\n".join(parts)
