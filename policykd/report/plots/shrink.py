"""Plot of a series of smaller students: what each keeps over the time of one action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from policykd.report.plots.style import COLORS, INK, new_figure, set_title


def shrink_plot(sizes: Sequence[Mapping[str, Any]], budget_us: float) -> Figure:
    """Draw retention on every skill over the measured time of one action, and the budget as a line.

    Args:
        sizes: the student and its series, as ``shrink.json`` holds them; those that were not distilled are left out.
        budget_us: the budget, us.
    """
    figure, (axes,) = new_figure(1, 1, (6.0, 3.2))
    shown = [size for size in sizes if size["retention"]]
    for i, skill in enumerate(shown[0]["retention"]):
        points = [(size["microseconds"], size["retention"][skill][0]) for size in shown]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=skill, color=COLORS[i % len(COLORS)])
    for size in shown:
        axes.annotate(f"{size['parameters']:,}", (size["microseconds"], size["lowest"]), fontsize=7, color=INK)
    axes.axvline(budget_us, color=INK, linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.set_xlabel("time of one action, us (C header, one core); numbers are parameters")
    set_title(axes, "retention")
    axes.legend(fontsize=8)
    return figure
