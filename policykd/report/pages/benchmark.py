"""The page of a benchmark of losses: one self-contained file, drawn from ``result.json`` alone.

It formats what the benchmark's result computes, and trains nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from policykd.kd.benchmark.measures import MEASURES
from policykd.kd.benchmark.results import RESULT, BenchResult
from policykd.kd.benchmark.table import (
    command,
    interval_text,
    mean_text,
    remarks,
    rows,
    settings,
    teacher_means,
)
from policykd.kd.registry import LOSSES
from policykd.report.pages.html import Plot, Tile, embed_file, embed_plots, write_html
from policykd.report.plots.benchmark import VERDICT_COLORS, cost_plot, effect_plot

_COLUMNS = ("agreement", "kl", "ece", "brier", "nll", "seconds_per_epoch")


def write_bench_page(folder: Path) -> Path:
    """Write ``index.html`` into a benchmark's folder, and its plots as PNG and SVG into ``plots/``.

    Args:
        folder: holds ``result.json``.

    Returns:
        The page.

    Raises:
        OutputError: if the result is missing or cannot be read, or the page cannot be written.
    """
    result = BenchResult.load(folder)
    title = "Accuracy with 95 % intervals against the time of an epoch; dotted: the teacher"
    plots = [
        Plot("effects", f"Paired effects against {result.baseline} with 95 % intervals", effect_plot(result)),
        Plot("cost", title, cost_plot(result)),
    ]
    context = {
        "plots": embed_plots(plots, folder, ["png"]),
        "data": embed_file(folder / RESULT, "application/json"),
    }
    return write_html(folder, "benchmark.html", {**_context(result), **context})


def _context(result: BenchResult) -> dict[str, Any]:
    return {
        "title": f"Losses compared on {result.config['task']}",
        "result": result,
        "tiles": _tiles(result),
        "columns": [MEASURES[name].label for name in _COLUMNS],
        "column_names": _COLUMNS,
        "measures": MEASURES,
        "teacher": teacher_means(result),
        "rows": rows(result),
        "colors": VERDICT_COLORS,
        "families": {name: info.family for name in result.methods if (info := LOSSES.known(name))},
        "titles": {name: info.title for name in result.methods if (info := LOSSES.known(name))},
        "settings": list(settings(result)),
        "seeds": [
            (method, [mean_text("accuracy", value) for value in result.values(method, "accuracy")])
            for method in result.ranked()
        ],
        "remarks": remarks(result),
        "command": command(result),
        "configuration": json.dumps(result.config, indent=2),
    }


def _tiles(result: BenchResult) -> list[Tile]:
    tiles = [
        Tile(f"{teacher_means(result)['accuracy']} %", "accuracy of the teacher", f"mean over {result.seeds} seeds"),
        Tile(
            f"{mean_text('accuracy', result.mean(result.baseline, 'accuracy').estimate)} %",
            f"accuracy of the student, {result.baseline}",
            f"95 % interval {interval_text('accuracy', result.mean(result.baseline, 'accuracy')).partition(' ')[2]}",
        ),
    ]
    others = [method for method in result.ranked() if method != result.baseline]
    verdicts = [result.verdict(method, "accuracy") for method in others]
    if others:
        best, counts = others[0], {name: verdicts.count(name) for name in ("better", "not shown", "worse")}
        effect = interval_text("accuracy", result.effect(best, "accuracy"), signed=True)
        tiles.append(Tile(best, "highest mean accuracy", f"{effect} points against {result.baseline}"))
        told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        tiles.append(Tile(f"{counts['better']} of {len(others)}", f"losses better than {result.baseline}", told))
    return tiles
