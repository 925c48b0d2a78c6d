"""Plots of a benchmark of losses: paired effects with intervals, and accuracy against the time of an epoch.

They take a stored result and return figures.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from policykd.kd.benchmark.measures import MEASURES
from policykd.kd.benchmark.results import BenchResult, Verdict
from policykd.report.plots.style import COLORS, INK, new_figure, set_title

_GREY = "#868e96"
VERDICT_COLORS: dict[Verdict, str] = {
    "better": COLORS[2],
    "worse": COLORS[1],
    "not shown": _GREY,
    "too few seeds": _GREY,
    "baseline": COLORS[0],
}
"""Colors of verdicts."""

_EFFECTS = ("accuracy", "kl", "ece")
_ROW_HEIGHT = 0.24  # of a method, inches


def effect_plot(result: BenchResult) -> Figure:
    """Draw paired effects on accuracy, fidelity and calibration with 95 % intervals, the highest accuracy on top."""
    names = [method for method in result.ranked() if method != result.baseline]
    figure, panels = new_figure(1, len(_EFFECTS), (9.0, _ROW_HEIGHT * len(names) + 1.1), share_y=True)
    places = [-float(place) for place in range(len(names))]
    for axes, measure in zip(panels, _EFFECTS, strict=True):
        scale, known = MEASURES[measure].scale, MEASURES[measure]
        for method, y in zip(names, places, strict=True):
            effect, color = result.effect(method, measure), VERDICT_COLORS[result.verdict(method, measure)]
            ends = (scale * effect.low, scale * effect.high)
            axes.plot(ends, (y, y), color=color, linewidth=2.2, alpha=0.55, solid_capstyle="butt")
            axes.plot(scale * effect.estimate, y, marker="o", markersize=5, color=color)
        axes.axvline(0.0, linewidth=0.8, color=_GREY)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"vs {result.baseline}; {known.better} is better")
        set_title(axes, known.label.replace(", %", ", points"))
    if names:
        panels[0].set_yticks(places, names)
        panels[0].set_ylim(places[-1] - 0.7, 0.7)
    return figure


def cost_plot(result: BenchResult) -> Figure:
    """Draw mean accuracy with its 95 % interval against the processor time of an epoch; the line is the teachers'."""
    figure, panels = new_figure(1, 1, (9.0, 5.0))
    axes, points = panels[0], []
    for method in result.ranked():
        accuracy, seconds = result.mean(method, "accuracy"), result.mean(method, "seconds_per_epoch").estimate
        color = VERDICT_COLORS[result.verdict(method, "accuracy")]
        axes.plot((seconds, seconds), (100 * accuracy.low, 100 * accuracy.high), color=color, alpha=0.55)
        axes.plot(seconds, 100 * accuracy.estimate, marker="o", markersize=5, color=color)
        points.append((method, seconds, 100 * accuracy.estimate))
    teacher = 100 * sum(result.teacher_values("accuracy")) / result.seeds
    axes.axhline(teacher, linewidth=0.9, linestyle=":", color=_GREY)
    axes.annotate("teacher", (0.0, teacher), xycoords=("axes fraction", "data"), va="bottom", color=_GREY, fontsize=8)
    axes.margins(x=0.08)
    _time_axis(axes)
    axes.set_ylabel(MEASURES["accuracy"].label)
    _labels(figure, axes, points)
    return figure


def _time_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [step * 10.0**power for power in range(-6, 6) for step in (1, 1.5, 2, 3, 5, 7)]
    shown = [tick for tick in ticks if low <= tick <= high]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("processor time of a training epoch on one thread, s")


def _labels(figure: Figure, axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Write names next to their points; names that would overlap move down and are joined to their points."""
    figure.draw_without_rendering()  # the layout determines the position of a point on the page
    scale = figure.dpi / 72.0
    taken: list[tuple[float, float, float]] = []  # left, right, height of a name, dots
    for name, x, y in sorted(points, key=lambda point: -point[2]):
        across, up = axes.transData.transform((x, y))
        left, right = across + 6 * scale, across + (6 + 5.2 * len(name)) * scale
        height = up
        while any(left < end and right > start and abs(height - h) < 10 * scale for start, end, h in taken):
            height -= scale
        taken.append((left, right, height))
        axes.annotate(
            name,
            xy=(x, y),
            xytext=(6, (height - up) / scale),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": _GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2},
        )
