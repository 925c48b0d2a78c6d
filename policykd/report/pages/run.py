"""The page of a run: one self-contained file that opens from disk, without a network, with all its data.

Plots are inline SVG in the page's colors; pictures, clips and the evaluation itself are embedded as data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from policykd.errors import PolicykdError
from policykd.evaluation import Evaluation
from policykd.report.pages.headlines import headlines, verdict
from policykd.report.pages.html import Plot, embed_file, embed_plots, interval_cell, versions, write_html
from policykd.report.pages.reproduction import reproduction
from policykd.report.plots.run import learning_curves, merge_curve, score_plot
from policykd.report.plots.style import color_of, svg_text
from policykd.report.plots.terrains import gallery_figure
from policykd.report.run_files import ResultsFolder
from policykd.report.skills import is_environment, skills_of

_Columns = tuple[tuple[str, str, int], ...]  # field of the summary, heading, digits
_MAIN: _Columns = (
    ("success", "success", 2),
    ("reward_per_step", "reward per step", 3),
    ("retention", "retention", 3),
    ("distance", "distance, m", 1),
)
_MORE: _Columns = (
    ("shortfall", "success lost to the expert", 3),
    ("reward_while_up", "reward per step before a fall", 3),
    ("length", "steps", 1),
)


@dataclass(frozen=True)
class Row:
    """One policy on one skill, as the tables show it.

    Attributes:
        skill: id of the skill; empty if it is that of the row above.
        policy: name of the policy.
        color: its color in the plots.
        role: ``expert``, ``student`` or empty.
        cells: per column estimate and interval as texts; None for an empty cell.
    """

    skill: str
    policy: str
    color: str
    role: str
    cells: list[tuple[str, str] | None]


def write_page(folder: Path) -> Path:
    """Write ``index.html`` into a results folder, from the files of the run.

    The plots are also written to ``plots/``.

    Args:
        folder: holds ``evaluation.json`` and may hold runs (``*/policy``, ``*/*/policy``, with their
            ``progress.jsonl``, ``config.json`` and ``result.json``), ``terrains.png``, clips, film strips and
            ``demo.json``.

    Returns:
        The page.

    Raises:
        OutputError: if the evaluation is missing, a file is garbled, or the page cannot be written.
        PolicyFileError: for a policy in the folder that cannot be read.
    """
    return write_html(folder, "run.html", page_context(ResultsFolder.read(folder)))


def page_context(results: ResultsFolder) -> dict[str, Any]:
    """Return the values that the template of a run's page names; other pages extend them."""
    evaluation = results.evaluation
    return {
        "title": f"{', '.join(results.students or evaluation.policies)}: {', '.join(evaluation.skills)}",
        "film_title": "The student on film" if results.demo else "On film",
        "verdict": verdict(results),
        "tiles": headlines(results),
        "evaluation": evaluation,
        "columns": [heading for _, heading, _ in _MAIN],
        "rows": _rows(results, _MAIN),
        "more_columns": [heading for _, heading, _ in _MORE],
        "more_rows": _rows(results, _MORE),
        "routing": results.routing,
        "plots": embed_plots(_plots(results), results.path),
        "clips": [_embedded(results, path, "video/mp4") for path in results.files(".mp4")],
        "terrains": _terrains(results),
        "pictures": [
            _embedded(results, path, "image/png") for path in results.files(".png") if path.stem != "terrains"
        ],
        "runs": results.runs,
        "names": results.names,
        "configurations": {run.name: json.dumps(run.config, indent=2) for run in results.runs if run.config},
        "commands": reproduction(results),
        "versions": versions(),
        "data": embed_file(results.path / "evaluation.json", "application/json"),
    }


def _rows(results: ResultsFolder, columns: _Columns) -> list[Row]:
    evaluation, colors = results.evaluation, color_of(results.evaluation.policies)
    return [
        Row(
            skill=skill if i == 0 else "",
            policy=policy,
            color=colors[policy],
            role=_role(evaluation, policy, skill, results.students),
            cells=[interval_cell(getattr(evaluation.summaries[policy, skill], f), digits) for f, _, digits in columns],
        )
        for skill in evaluation.skills
        for i, policy in enumerate(evaluation.policies)
    ]


def _role(evaluation: Evaluation, policy: str, skill: str, students: Sequence[str]) -> str:
    if evaluation.experts.get(skill) == policy:
        return "expert"
    return "student" if policy in students else ""


def _plots(results: ResultsFolder) -> list[Plot]:
    """Return the plots of scores, learning curves and merges, as far as there are data."""
    title = "Success and retention with 95 % intervals; hollow: the expert itself"
    drawn = [Plot("scores", title, score_plot(results.evaluation))]
    learning = {
        run.manifest.skills[0] if len(run.manifest.skills) == 1 else run.name: run.log
        for run in results.runs
        if any("steps" in row for row in run.log)
    }
    if learning:
        title = "Training of the experts, measured in validation episodes"
        drawn.append(Plot("learning", title, learning_curves(learning)))
    for run in results.runs:
        if any("round" in row and "retention" in row for row in run.log):
            title = f"Merge of {run.name}, measured in validation episodes"
            drawn.append(Plot(f"merge-{run.name.replace('/', '-')}", title, merge_curve(run.log)))
    return drawn


def _embedded(results: ResultsFolder, path: Path, kind: str) -> dict[str, Any]:
    return {
        "title": path.stem.replace("-", " "),
        "link": path.relative_to(results.path).as_posix(),
        "data": embed_file(path, kind),
    }


def _terrains(results: ResultsFolder) -> dict[str, Any] | None:
    """Return profiles of the terrains in the page's colors; the run's own picture if a terrain is not known."""
    if any(map(is_environment, results.evaluation.skills)):
        return None
    try:
        skills = skills_of(results.evaluation.skills)
    except PolicykdError:
        raster = results.path / "terrains.png"
        return _embedded(results, raster, "image/png") if raster.exists() else None
    return {"svg": Markup(svg_text(gallery_figure(skills, seed=int(results.demo.get("seed", 0)))))}
