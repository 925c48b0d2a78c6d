"""Methods below the baseline: what every candidate setting reached on validation data, from the saved result alone.

It shows whether another weight or learning rate would have closed the gap; it trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from policykd.kd.benchmark.results import BenchResult


def below_baseline(result: BenchResult) -> list[str]:
    """Return the methods whose mean test accuracy is below the baseline's, the lowest last."""
    ranked = result.ranked()
    return ranked[ranked.index(result.baseline) + 1 :]


def candidate_text(setting: Mapping[str, Any], default: Mapping[str, Any]) -> str:
    """Return how a candidate differs from the default: factors of weight, temperature and learning rate."""
    parts = []
    if default["weight"] and setting["weight"] != default["weight"]:
        parts.append(f"weight x {setting['weight'] / default['weight']:.2g}")
    for name, value in setting["options"].items():
        if value != default["options"].get(name):
            parts.append(f"{name} {value:g}")
    if setting["lr_factor"] != default["lr_factor"]:
        parts.append(f"rate x {setting['lr_factor']:g}")
    return ", ".join(parts) or "default"


def draw_candidates(result: BenchResult, methods: list[str]) -> list[str]:
    """Return the lines of a Markdown table: candidate -> mean validation accuracy in percent, per method."""
    lines = ["| method | candidate: validation accuracy, % | chosen (seeds) |", "| --- | --- | --- |"]
    for method in methods:
        cells = result.cells[method]
        settings = [candidate["setting"] for candidate in cells[0]["candidates"]]
        reached = np.mean([[c["val"]["accuracy"] for c in cell["candidates"]] for cell in cells], axis=0)
        texts = [candidate_text(setting, settings[0]) for setting in settings]
        chosen = [sum(cell["chosen"] == place for cell in cells) for place in range(len(settings))]
        found = "; ".join(f"{text}: {100 * value:.1f}" for text, value in zip(texts, reached, strict=True))
        picks = "; ".join(f"{text}: {count}" for text, count in zip(texts, chosen, strict=True) if count)
        lines.append(f"| {method} | {found} | {picks} |")
    return lines
