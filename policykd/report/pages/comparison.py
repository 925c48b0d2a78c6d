"""The page of a comparison of curricula: scores with intervals, matrices, cost, and every seed's values.

It reads ``comparison.json`` and the runs' logs, and simulates nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from policykd.curriculum.comparison import AGGREGATES, COMPARISON, Comparison, run_folder
from policykd.curriculum.result import RESULT, CurriculumResult
from policykd.curriculum.stage_runner import StageFolders
from policykd.evaluation.curves import curve_of
from policykd.evaluation.matrix import SkillMatrix
from policykd.plain import as_plain
from policykd.report.pages.html import Plot, Tile, embed_file, embed_plots, interval_cell, versions, write_html
from policykd.report.plots.matrix import interval_plot, matrix_heat_map
from policykd.report.plots.run import learning_curves
from policykd.report.plots.style import svg_text
from policykd.report.plots.terrains import gallery_figure
from policykd.report.skills import is_environment, label_of, skills_of
from policykd.stats import Interval

Intervals = Mapping[str, Mapping[str, Interval]]
"""Curriculum to its :meth:`Comparison.intervals`."""


def write_comparison_page(folder: Path) -> Path:
    """Write ``index.html`` into the folder of a finished comparison; the plots are also written to ``plots/``.

    Args:
        folder: holds ``comparison.json`` and, for the learning curves, ``runs``.

    Returns:
        The page.

    Raises:
        OutputError: if the comparison cannot be read, or the page cannot be written.
    """
    comparison = Comparison.load(folder / COMPARISON)
    intervals = {name: comparison.intervals(name) for name in comparison.curricula}
    context = {
        "title": f"Curricula compared: {', '.join(label_of(skill) for skill in comparison.skills)}",
        "comparison": comparison,
        "verdict": _verdict(comparison, intervals),
        "tiles": _tiles(intervals),
        "columns": [*comparison.skills, *AGGREGATES],
        "rows": _rows(comparison, intervals),
        "zero_shot": _zero_shot(comparison),
        "figures": embed_plots(_plots(comparison, intervals, folder), folder),
        "terrains": _terrains(comparison),
        "seeds": _every_seed(comparison),
        "configuration": json.dumps(as_plain(comparison.recipe), indent=2),
        "versions": versions(),
        "data": embed_file(folder / COMPARISON, "application/json"),
    }
    return write_html(folder, "comparison.html", context)


def _plots(comparison: Comparison, intervals: Intervals, folder: Path) -> list[Plot]:
    columns = (*comparison.skills, *AGGREGATES)
    groups = {column: {name: found[column] for name, found in intervals.items()} for column in columns}
    spread = " with 95 % intervals over seeds: interquartile means" if len(comparison.seeds) > 1 else ""
    title = (
        f"Reward of the final policies over the shared experts'{spread}; at the bottom the mean over all skills, and "
        "that of every policy's weakest skill"
    )
    drawn = [Plot("scores", title, interval_plot(groups, "normalized reward", least=1.0))]
    for name in comparison.curricula:
        title = f"{name}: mean matrix over all seeds; framed: the skill that was just learned"
        drawn.append(Plot(f"matrix-{name}", title, matrix_heat_map(_mean_matrix(comparison, name))))
    curves = _curves(comparison, folder)
    if curves:
        title = "Training of the skill that was learned last, seed 0, in validation episodes"
        drawn.append(Plot("learning", title, learning_curves(curves)))
    return drawn


def _mean_matrix(comparison: Comparison, name: str) -> SkillMatrix:
    matrices = [run.matrix for run in comparison.of(name)]
    scores, success = (
        tuple(tuple(row) for row in np.mean([getattr(m, field) for m in matrices], axis=0).tolist())
        for field in ("scores", "success")
    )
    return replace(matrices[0], experts=comparison.experts, scores=scores, success=success)


def _curves(comparison: Comparison, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the log of the training on the last skill of every curriculum that learns it alone."""
    logs = {}
    for name in comparison.curricula:
        run = run_folder(folder, name, comparison.seeds[0])
        if not (run / RESULT).exists():
            continue
        stage = CurriculumResult.load(run / RESULT).experts.get(comparison.skills[-1])
        logs[name] = StageFolders(run / "stages").log(stage) if stage is not None else []
    return {name: log for name, log in logs.items() if curve_of(log)}


def _verdict(comparison: Comparison, intervals: Intervals) -> str:
    """Return the leaders overall and on the weakest skill, and whether they are clearly ahead of the next."""
    praises = {
        "overall": "has the highest interquartile mean over all skills",
        "weakest skill": "is best on its weakest",
    }
    leaders = [
        _leader({name: found[column] for name, found in intervals.items()}, praise, few=bool(comparison.warning))
        for column, praise in praises.items()
    ]
    return f"{'. '.join(leaders)}. Every run may use {comparison.budget / 1e6:.2f} M environment steps."


def _leader(found: Mapping[str, Interval], praise: str, *, few: bool) -> str:
    ordered = sorted(found, key=lambda name: -found[name].estimate)
    best = found[ordered[0]]
    sentence = f"{ordered[0]} {praise}, {best.estimate:.3f} of the experts' reward"
    if len(ordered) == 1:
        return sentence
    second = found[ordered[1]]
    told = f"their 95 % intervals {'do not overlap' if best.low > second.high else 'overlap'}"
    if few:
        told = "these are too few seeds to tell them apart"
    return f"{sentence}; {ordered[1]} follows with {second.estimate:.3f}, and {told}"


def _tiles(intervals: Intervals) -> list[Tile]:
    tiles = []
    for name, columns in intervals.items():
        found, weakest = columns["overall"], columns["weakest skill"]
        spread = f"95 % interval {found.low:.3f} to {found.high:.3f}; " if found.known else ""
        detail = f"{spread}weakest skill {weakest.estimate:.3f}"
        tiles.append(Tile(f"{found.estimate:.3f}", name, detail))
    return tiles


def _rows(comparison: Comparison, intervals: Intervals) -> list[dict[str, Any]]:
    rows = []
    for name in comparison.curricula:
        runs, success = comparison.of(name), comparison.final_success(name)
        means = [*success.mean(axis=0), success.mean(), success.mean(), success.min(axis=1).mean()]
        forgotten = comparison.forgetting(name)
        transfer = [value for run in runs for value in run.transfer.values()]
        rows.append(
            {
                "name": name,
                "cells": [interval_cell(interval, 3) for interval in intervals[name].values()],
                "success": [f"{value:.2f}" for value in means],
                "forgetting": interval_cell(forgotten, 3),
                "transfer": f"{np.mean(transfer):+.3f}".replace("-", "\N{MINUS SIGN}") if transfer else None,
                "steps": f"{np.mean([run.steps for run in runs]) / 1e6:.2f} M",
                "cpu": f"{np.mean([run.cpu_seconds for run in runs]):.0f} s",
            }
        )
    return rows


def _zero_shot(comparison: Comparison) -> list[dict[str, Any]]:
    skills = list(comparison.runs[0].zero_shot)
    return [
        {
            "skill": skill,
            "success": [
                f"{np.mean([run.zero_shot[skill]['success'] for run in comparison.of(name)]):.2f}"
                for name in comparison.curricula
            ],
        }
        for skill in skills
    ]


def _terrains(comparison: Comparison) -> Markup | None:
    """Return a picture of the terrains; None for gymnasium environments."""
    if any(map(is_environment, comparison.skills)):
        return None
    skills = skills_of(comparison.skills, records=comparison.recipe.skill_records)
    return Markup(svg_text(gallery_figure(skills)))


def _every_seed(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "curriculum": run.curriculum,
            "seed": run.seed,
            "scores": [f"{score:.3f}" for score in run.matrix.with_experts(comparison.experts).retention],
            "success": [f"{value:.2f}" for value in run.matrix.success[-1]],
        }
        for run in comparison.runs
    ]
