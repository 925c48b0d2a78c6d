"""Plots of a run: learning curves, scores with intervals, the rounds of a merge.

They take stored records and return figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from policykd.errors import ConfigError
from policykd.evaluation import Evaluation
from policykd.report.plots.style import INK, color_of, legend_columns, new_figure, set_title
from policykd.stats import Interval

Rows = Sequence[Mapping[str, Any]]

_CURVES = {"reward_per_step": "reward per step", "success": "success", "distance": "distance, m"}
_ROW_HEIGHT = 0.24  # of a policy in the plot of the scores, inches


def learning_curves(runs: Mapping[str, Rows]) -> Figure:
    """Draw reward per step, success and distance in validation over environment steps.

    Args:
        runs: name of a run to the rows of its log, which hold ``steps`` and the figures.

    Raises:
        ConfigError: if no row holds any of them.
    """
    if not any("steps" in row for rows in runs.values() for row in rows):
        raise ConfigError("no training log holds a measurement to plot")
    figure, panels = new_figure(1, len(_CURVES), (9.0, 2.7))
    colors = color_of(list(runs))
    for axes, (name, label) in zip(panels, _CURVES.items(), strict=True):
        for run, rows in runs.items():
            points = [(row["steps"], row[name]) for row in rows if "steps" in row and name in row]
            if points:
                marker = "o" if len(points) < 10 else ""
                axes.plot(*zip(*points, strict=True), color=colors[run], label=run, marker=marker, markersize=3)
        _count_axis(axes, "environment steps")
        set_title(axes, label)
        axes.set_ylim(0, 1.02 if name != "distance" else 1.05 * max(axes.dataLim.y1, 0.1))
    _legend(figure, panels[0])
    return figure


def score_plot(evaluation: Evaluation) -> Figure:
    """Draw success and retention of every policy on every skill, as points with 95 % intervals.

    Args:
        evaluation: the results; without experts, reward per step is drawn instead of retention.
    """
    policies, skills = evaluation.policies, evaluation.skills
    measures = {
        "success": "success",
        **({"retention": "retention of the expert's reward"} if evaluation.experts else {}),
    }
    if not evaluation.experts:
        measures["reward_per_step"] = "reward per step"
    height = (len(policies) * _ROW_HEIGHT + 0.25) * len(skills) + 0.8
    figure, panels = new_figure(1, len(measures), (9.0, height), share_y=True)
    colors = color_of(policies)
    rows = [(skill, policy) for skill in skills for policy in policies]
    gap = 1.2
    places = [-(i + gap * (i // len(policies))) for i in range(len(rows))]
    for axes, (name, label) in zip(panels, measures.items(), strict=True):
        for (skill, policy), y in zip(rows, places, strict=True):
            interval = getattr(evaluation.summaries[policy, skill], name)
            if interval is not None:
                _point(axes, interval, y, colors[policy], own=evaluation.experts.get(skill) == policy)
        set_title(axes, label)
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, max(1.03, axes.get_xlim()[1]))
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(places, [policy for _, policy in rows])
    across = panels[0].get_yaxis_transform()
    for skill, y in zip(skills, places[:: len(policies)], strict=True):
        panels[0].text(0.01, y + 0.75, skill, transform=across, weight="bold", size=9, color=INK)
    panels[0].set_ylim(places[-1] - 0.7, 1.5)
    return figure


def merge_curve(rows: Rows) -> Figure:
    """Draw retention of every expert's reward and the student's loss over the rounds of a merge.

    Args:
        rows: the merge's log: ``round``, ``loss``, and ``retention`` by skill.

    Raises:
        ConfigError: if no row holds a round with a retention.
    """
    rows = [row for row in rows if "round" in row and isinstance(row.get("retention"), Mapping)]
    if not rows:
        raise ConfigError("the merge's log does not hold a round to plot")
    figure, panels = new_figure(1, 2, (9.0, 2.7))
    rounds = [row["round"] for row in rows]
    skills = list(rows[0]["retention"])
    for skill, color in color_of(skills).items():
        values = [row["retention"].get(skill) for row in rows]
        panels[0].plot(rounds, values, color=color, label=skill, marker="o", markersize=3)
    panels[0].axhline(1.0, linewidth=0.8, linestyle=":", color="#868e96")
    panels[0].set_ylim(bottom=0)
    set_title(panels[0], "retention of each expert's reward")
    losses = [(row["round"], row["loss"]) for row in rows if row.get("loss", 0) > 0]
    if losses:
        panels[1].semilogy(*zip(*losses, strict=True), color="#868e96", marker="o", markersize=3)
    set_title(panels[1], "imitation loss")
    for axes in panels:
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, panels[0])
    return figure


def _point(axes: Axes, interval: Interval, y: float, color: str, *, own: bool) -> None:
    """Draw an estimate with its interval; hollow for the expert that retention is measured against."""
    axes.plot([interval.low, interval.high], [y, y], color=color, linewidth=2.2, alpha=0.55, solid_capstyle="butt")
    face = "none" if own else color
    axes.plot(interval.estimate, y, marker="o", markersize=6, color=color, markerfacecolor=face)


def _count_axis(axes: Axes, label: str) -> None:
    def short(value: float, _: int | None = None) -> str:
        for unit, size in (("M", 1e6), ("k", 1e3)):
            if abs(value) >= size:
                return f"{value / size:g}{unit}"
        return f"{value:g}"

    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(short))
    axes.set_xlabel(label)
    axes.set_xlim(left=0)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = legend_columns(figure, labels)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, labelcolor=INK)
