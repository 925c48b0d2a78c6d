"""Style and files of all figures: quiet axes, fixed colors, SVG in the page's own text color.

It may use matplotlib and file output, and knows nothing of what is drawn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from policykd.errors import ConfigError, OutputError
from policykd.storage import write_bytes

COLORS = ("#2a78d6", "#eb6834", "#1a9e6e", "#8a63d2", "#c98500", "#d6336c", "#0c8599", "#868e96")
"""Colors of policies in their order, distinct for the common color deficiencies, on white and on black."""

INK = "#010203"
"""Color of text and axes: nearly black, and in an SVG the text color of the page around it."""
_STYLE: Any = {  # matplotlib types the names of all its settings, as literals
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "grid.alpha": 0.18,
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",  # text stays text: it can be selected, and uses the page's font
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), INK),
    "grid.color": INK,
}


def new_figure(
    rows: int, columns: int, size: tuple[float, float], *, heights: Sequence[float] | None = None, share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels.

    Args:
        rows: rows of panels.
        columns: columns of panels.
        size: width and height, inches.
        heights: relative heights of the rows; None for equal ones.
        share_y: whether all panels share the vertical axis.

    Returns:
        The figure, and its panels row by row.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=share_y, height_ratios=heights)
    return figure, list(panels.flat)


def set_title(axes: Axes, text: str) -> None:
    """Set the title of a panel."""
    axes.set_title(text, loc="left", fontsize=10.0, fontweight="bold")


def color_of(names: Sequence[str]) -> dict[str, str]:
    """Return a color for each name, by position; they repeat after the eighth."""
    return {name: COLORS[i % len(COLORS)] for i, name in enumerate(names)}


def legend_columns(figure: Figure, labels: Sequence[str]) -> int:
    """Return how many columns a legend of these labels may have, so that it is not wider than its figure."""
    each = 0.7 + 0.08 * max(map(len, labels), default=0)  # inches: line and space, and a character of 10 points
    return max(1, min(len(labels), int(figure.get_figwidth() / each)))


def svg_text(figure: Figure) -> str:
    """Return a figure as an SVG element that takes the text color and font of its page.

    Equal figures give equal text.
    """
    buffer = io.StringIO()
    with rc_context({**_STYLE, "svg.hashsalt": "policykd"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def save_figure(figure: Figure, out: Path) -> Path:
    """Write a figure atomically.

    Args:
        figure: from :func:`new_figure`.
        out: ``.svg`` (transparent) or ``.png`` (on white, 150 dots per inch). Parents are created.

    Returns:
        The file.

    Raises:
        ConfigError: for another suffix.
        OutputError: if it cannot be written.
    """
    if out.suffix == ".svg":
        content = svg_text(figure).encode()
    elif out.suffix == ".png":
        buffer = io.BytesIO()
        with rc_context(_STYLE):
            figure.savefig(buffer, format="png", dpi=150, facecolor="white")
        content = buffer.getvalue()
    else:
        raise ConfigError(f"the figure is {out.name}; its name must end in .svg or .png")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, content)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from None
    return out
