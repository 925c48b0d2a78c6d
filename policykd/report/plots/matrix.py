"""Plots of a curriculum or an evaluation: matrices as heat maps, scores with intervals, the lineage of policies.

They take stored records and return figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from policykd.errors import ConfigError
from policykd.evaluation import Evaluation
from policykd.evaluation.matrix import SkillMatrix
from policykd.report.plots.style import COLORS, INK, legend_columns, new_figure, set_title
from policykd.report.skills import label_of
from policykd.stats import Interval

_HEAT = LinearSegmentedColormap.from_list("kept", ["#f4dccf", "#f3ead7", "#cfe3d6", "#7fbf9b"])
_KINDS = {"train": "#2a78d6", "inject": "#c98500", "merge": "#1a9e6e", "finetune": "#9b3fb5"}
_TEXT = "#1b1c1d"
_LABELS = 40  # characters that fit below a panel side by side


def matrix_heat_map(matrix: SkillMatrix) -> Figure:
    """Draw normalized score and success after every stage, one column per skill; the skill just learned is framed.

    Args:
        matrix: the matrix.
    """
    names = [label_of(skill) for skill in matrix.skills]
    crowded = sum(len(name) for name in names) > _LABELS
    figure, panels = new_figure(1, 2, (9.0, 0.42 * len(matrix.stages) + (1.6 if crowded else 1.0)), share_y=True)
    framed = {(stage, column) for column, stage in enumerate(matrix.learned)}
    _heat(panels[0], framed, matrix.normalized.tolist(), 3, "reward over the expert's")
    _heat(panels[1], framed, [list(row) for row in matrix.success], 2, "success")
    _label(panels, [f"after {stage}" for stage in matrix.stages], names, crowded=crowded)
    return figure


def evaluation_heat_map(evaluation: Evaluation) -> Figure:
    """Draw retention and success of every policy on every skill; the expert of each skill is framed.

    Args:
        evaluation: the results; the last policy, usually the student, is in bold.

    Raises:
        ConfigError: if a skill has no expert to compare its policies with.
    """
    without = [skill for skill in evaluation.skills if skill not in evaluation.experts]
    if without:
        raise ConfigError(f"retention of {', '.join(without)} needs an expert; name one with Evaluation.with_experts")
    policies, names = evaluation.policies, [label_of(skill) for skill in evaluation.skills]
    figure, panels = new_figure(1, 2, (9.0, 0.42 * len(policies) + 1.2), share_y=True)
    found = [[evaluation.summaries[policy, skill] for skill in evaluation.skills] for policy in policies]
    own = {(policies.index(evaluation.experts[skill]), j) for j, skill in enumerate(evaluation.skills)}
    kept = [[cell.retention.estimate if cell.retention else None for cell in row] for row in found]
    _heat(panels[0], own, kept, 2, "retention of the expert's reward")
    judged = list(map(evaluation.judges, evaluation.skills))
    success = [[c.success.estimate if says else None for c, says in zip(row, judged, strict=True)] for row in found]
    _heat(panels[1], own, success, 2, "success")
    _label(panels, policies, names, crowded=sum(map(len, names)) > _LABELS)
    return figure


def _label(panels: Sequence[Axes], rows: Sequence[str], columns: Sequence[str], *, crowded: bool) -> None:
    """Name rows and columns of panels that share their rows."""
    panels[0].set_yticks(range(len(rows)), rows)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    for axes in panels:
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_xticks(
            range(len(columns)), columns, rotation=35 if crowded else 0, ha="right" if crowded else "center"
        )


def _heat(
    axes: Axes, framed: Set[tuple[int, int]], values: Sequence[Sequence[float | None]], digits: int, title: str
) -> None:
    """Draw a table of colored figures; a missing one is a dash."""
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            color = "none" if value is None else _HEAT(min(1.0, max(0.0, value)))
            # Rectangles instead of an image: an SVG keeps them sharp, and text on them can be selected.
            axes.fill(
                [j - 0.48, j + 0.48, j + 0.48, j - 0.48],
                [i - 0.46, i - 0.46, i + 0.46, i + 0.46],
                facecolor=color,
                edgecolor=INK if (i, j) in framed else "none",
                linewidth=1.2,
            )
            weight = "bold" if i == len(values) - 1 else "normal"
            text = "-" if value is None else f"{value:.{digits}f}"
            axes.text(j, i, text, ha="center", va="center", size=9, color=_TEXT, weight=weight)
    axes.tick_params(length=0)
    set_title(axes, title)


def interval_plot(groups: Mapping[str, Mapping[str, Interval]], title: str, *, least: float | None = None) -> Figure:
    """Draw points with intervals, one block per skill and one row per method.

    Args:
        groups: skill to method to interval.
        title: title of the plot.
        least: value that a line marks.

    Raises:
        ConfigError: if there is no interval.
    """
    methods = list(dict.fromkeys(name for group in groups.values() for name in group))
    if not methods:
        raise ConfigError("there is no interval to plot")
    gap = 1.0
    height = (len(methods) * 0.22 + 0.2) * len(groups) + 0.9
    figure, panels = new_figure(1, 1, (9.0, height))
    axes, places, y = panels[0], [], 0.0
    for skill, group in groups.items():
        places.append((y, skill))
        for i, method in enumerate(methods):
            if method in group:
                interval, color = group[method], COLORS[i % len(COLORS)]
                axes.plot([interval.low, interval.high], [y, y], color=color, linewidth=2.2, alpha=0.55)
                label = method if skill == next(iter(groups)) else None
                axes.plot(interval.estimate, y, marker="o", markersize=5, color=color, linestyle="none", label=label)
            y -= 1
        y -= gap
    middle = (len(methods) - 1) / 2
    axes.set_yticks([place - middle for place, _ in places], [skill for _, skill in places])
    axes.grid(visible=False, axis="y")
    if least is not None:
        axes.axvline(least, linewidth=0.8, linestyle=":", color="#868e96")
    set_title(axes, title)
    if len(methods) > 1:
        columns = legend_columns(figure, methods)
        figure.legend(loc="outside lower center", ncols=columns, labelcolor=INK)
    return figure


def lineage_figure(nodes: Sequence[tuple[str, str, Sequence[str]]]) -> Figure:
    """Draw the lineage of policies: trainings above, merges below, in the order in which they were made.

    Args:
        nodes: (name, ``train``, ``inject``, ``merge`` or ``finetune``, names of the nodes that it came from), parents
            first.

    Raises:
        ConfigError: for no node, or a parent that is not a node before it.
    """
    if not nodes:
        raise ConfigError("there is no policy to draw the lineage of")
    places: dict[str, tuple[float, float]] = {}
    figure, panels = new_figure(1, 1, (9.0, 2.6))
    axes = panels[0]
    axes.set_axis_off()
    for i, (name, kind, parents) in enumerate(nodes):
        places[name] = (float(i), {"train": 1.0, "inject": 0.5, "merge": 0.0, "finetune": 0.5}[kind])
        for parent in parents:
            if parent not in places:
                raise ConfigError(f"{name} comes from {parent}, which is not a policy before it")
            axes.annotate(
                "",
                xy=places[name],
                xytext=places[parent],
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": "#868e96",
                    "linewidth": 1.0,
                    "shrinkA": 8,
                    "shrinkB": 8,
                    "connectionstyle": "arc3,rad=0.12",
                },
            )
    for name, kind, _ in nodes:
        x, y = places[name]
        axes.plot(x, y, marker="o", markersize=11, color=_KINDS[kind])
        axes.text(x, y + (0.16 if y > 0 else -0.16), name, ha="center", va="bottom" if y > 0 else "top", size=8)
    for kind in dict.fromkeys(kind for _, kind, _ in nodes):
        axes.plot([], [], marker="o", linestyle="none", color=_KINDS[kind], label=kind)
    figure.legend(loc="outside lower center", ncols=len(_KINDS), labelcolor=INK)
    axes.set_xlim(-0.6, len(nodes) - 0.4)
    axes.set_ylim(-0.45, 1.45)
    return figure
