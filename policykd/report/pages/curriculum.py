"""The page of a curriculum: its matrix, retention and cost, and everything that a run's page shows.

It reads the run's files and clips that were made before, and simulates nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from policykd.agents.files.policy_file import read_manifest
from policykd.curriculum.result import RESULT, CurriculumResult
from policykd.curriculum.stage_runner import StageFolders
from policykd.curriculum.stages import Outcome
from policykd.report.pages.headlines import duration, percent
from policykd.report.pages.html import Plot, Tile, embed_plots, write_html
from policykd.report.pages.run import page_context
from policykd.report.plots.matrix import interval_plot, lineage_figure, matrix_heat_map
from policykd.report.run_files import ResultsFolder
from policykd.report.skills import label_of

_MAKES_A_POLICY = ("train", "inject", "merge", "finetune")


def write_curriculum_page(folder: Path) -> Path:
    """Write ``index.html`` into the folder of a finished curriculum; it shows the clips that are there.

    Args:
        folder: holds ``curriculum.json``, ``evaluation.json`` and ``stages``.

    Returns:
        The page.

    Raises:
        OutputError: if the curriculum is not finished, or the page cannot be written.
    """
    result = CurriculumResult.load(folder / RESULT)
    results = ResultsFolder.read(folder)
    context = {
        **page_context(results),
        "title": f"{result.recipe.curriculum}: {', '.join(label_of(skill) for skill in result.matrix.skills)}",
        "verdict": _verdict(result),
        "tiles": _tiles(result),
        "film_title": "The final policy on film",
        "figures": embed_plots(_plots(result, results, folder), folder),
        "matrix_rows": _matrix_rows(result),
        "zero_shot": result.zero_shot,
        "stages": [_stage_row(outcome) for outcome in result.outcomes if outcome.kind != "measure"],
        "commands": _commands(result, folder),
        "configurations": {"the recipe": json.dumps(result.to_json()["recipe"], indent=2)},
    }
    return write_html(folder, "curriculum.html", context)


def _plots(result: CurriculumResult, results: ResultsFolder, folder: Path) -> list[Plot]:
    title = "What the policy can do after every stage; framed: the skill that was just learned"
    drawn = [Plot("matrix", title, matrix_heat_map(result.matrix))]
    summaries = results.evaluation.summaries
    kept = {
        skill: {result.final: interval}
        for skill in result.matrix.skills
        if (interval := summaries[result.final, skill].retention) is not None
    }
    if kept:
        title = "Reward of the final policy over each expert's on the same tracks, with 95 % intervals"
        drawn.append(Plot("retention", title, interval_plot(kept, "retention", least=1.0)))
    lineage = lineage_figure(_lineage(result, StageFolders(folder / "stages")))
    drawn.append(Plot("lineage", "Which policy came from which", lineage))
    return drawn


def _lineage(result: CurriculumResult, folders: StageFolders) -> list[tuple[str, str, list[str]]]:
    """Return (stage, operation, stages of its parents) of every stage that makes a policy, parents first."""
    stages = [outcome for outcome in result.outcomes if outcome.kind in _MAKES_A_POLICY]
    manifests = {outcome.name: read_manifest(folders.policy(outcome.name)) for outcome in stages}
    stage_of = {manifest.weights_sha256: name for name, manifest in manifests.items()}
    return [
        (
            name,
            manifest.operation,
            [stage_of[p.weights_sha256] for p in manifest.parents if p.weights_sha256 in stage_of],
        )
        for name, manifest in manifests.items()
    ]


def _verdict(result: CurriculumResult) -> str:
    matrix = result.matrix
    forgotten = matrix.mean_absolute_forgetting
    reward = "the reward of its experts" if result.experts else "its own reward right after learning each skill"
    sentence = (
        f"The final policy keeps {percent(float(matrix.retention.mean()))} of {reward} on average and "
        f"{percent(float(matrix.retention.min()))} on the worst skill, measured on "
        f"{result.recipe.measurement.episodes} tracks per skill that training never saw."
    )
    if forgotten is not None:
        sentence += f" Mean absolute forgetting is {forgotten:.3f} of the expert's reward."
    return sentence


def _tiles(result: CurriculumResult) -> list[Tile]:
    matrix = result.matrix
    worst = matrix.skills[int(matrix.retention.argmin())]
    least = min(range(len(matrix.skills)), key=lambda j: matrix.success[-1][j])
    forgotten = matrix.mean_absolute_forgetting
    tiles = [
        Tile(percent(float(matrix.retention.mean())), "mean retention", f"least {matrix.retention.min():.3f}, {worst}"),
        Tile(percent(matrix.success[-1][least]), "success on the worst skill", matrix.skills[least]),
    ]
    if forgotten is not None:
        tiles.append(Tile(f"{forgotten:.3f}", "mean absolute forgetting", "of the expert's reward"))
    tiles.append(Tile(f"{result.steps / 1e6:.2f} M", "environment steps", f"of {result.budget / 1e6:.2f} M allowed"))
    tiles.append(Tile(duration(result.seconds), "of wall time", f"{duration(result.cpu_seconds)} of processor time"))
    return tiles


def _matrix_rows(result: CurriculumResult) -> list[dict[str, Any]]:
    matrix, rows = result.matrix, []
    for j, skill in enumerate(matrix.skills):
        jump, old = matrix.jumpstart[j], bool(matrix.old[j])
        steps = result.steps_to_expert.get(skill)
        rows.append(
            {
                "skill": skill,
                "retention": f"{matrix.retention[j]:.3f}",
                "success": f"{matrix.success[-1][j]:.2f}",
                "forgetting": _signed(matrix.forgetting[j]) if old else None,
                "relative": _signed(matrix.relative_forgetting[j]) if old else None,
                "jumpstart": None if jump is None else _signed(jump),
                "steps": None if steps is None else f"{steps:,.0f}",
                "expert": f"{matrix.experts[j]:.3f}",
                "untrained": f"{matrix.untrained[j]:.3f}",
            }
        )
    return rows


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _stage_row(outcome: Outcome) -> dict[str, str]:
    shown = {k: v for k, v in outcome.figures.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return {
        "name": outcome.name,
        "kind": outcome.kind,
        "steps": f"{outcome.steps:,}",
        "seconds": f"{outcome.seconds:.0f} s",
        "cpu": f"{outcome.cpu_seconds:.0f} s",
        "figures": ", ".join(f"{k.replace('_', ' ')} {v:.3g}" for k, v in shown.items()),
    }


def _commands(result: CurriculumResult, folder: Path) -> list[str]:
    return [
        f"policykd plaid --recipe {(folder / 'recipe.yaml').name} --seed {result.seed} --out {folder.name}",
        "# recipe.yaml is in the results folder",
    ]
