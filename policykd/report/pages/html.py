"""Common parts of all pages: templates, tiles, cells, plots, versions, and a file that is written whole.

It knows templates and styles, and nothing of what a page is about.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from policykd.environment import environment
from policykd.errors import OutputError
from policykd.report.plots.style import save_figure
from policykd.stats import Interval, format_interval
from policykd.storage import write_text

PAGE = "index.html"
_PACKAGES = ("policykd", "mujoco", "torch", "stable-baselines3", "gymnasium", "numpy", "scipy")


@dataclass(frozen=True)
class Tile:
    """A figure at the top of a page.

    Attributes:
        value: the figure.
        label: its meaning.
        detail: its place and its uncertainty.
    """

    value: str
    label: str
    detail: str = ""


class Plot(NamedTuple):
    """A plot of a page.

    Attributes:
        name: name of its file.
        title: title on the page.
        figure: the figure.
    """

    name: str
    title: str
    figure: Figure


def embed_plots(plots: Sequence[Plot], folder: Path, further: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Write plots to the folder ``plots``, and return their titles and SVG elements for a template.

    Args:
        plots: the plots.
        folder: folder of the page.
        further: suffixes of further files, next to the SVG.

    Raises:
        OutputError: if a file cannot be written.
    """
    found = []
    for plot in plots:
        for suffix in further:
            save_figure(plot.figure, folder / "plots" / f"{plot.name}.{suffix}")
        svg = save_figure(plot.figure, folder / "plots" / f"{plot.name}.svg")
        found.append({"title": plot.title, "svg": Markup(svg.read_text(encoding="utf-8"))})
    return found


def embed_file(path: Path, kind: str) -> Markup:
    """Return the content of a file as a data URI for a template; see :func:`data_uri`."""
    return Markup(data_uri(kind, path.read_bytes()))


def versions() -> dict[str, str]:
    """Return the versions of Python, the system and the packages that results depend on, by name."""
    found = environment(_PACKAGES)
    return {"Python": found["python"], "system": found["system"]} | {p: found[p] for p in _PACKAGES if p in found}


def write_html(folder: Path, template: str, context: Mapping[str, Any], name: str = PAGE) -> Path:
    """Fill a template and write it into a folder.

    Args:
        folder: folder of the page.
        template: name of a file in ``templates``.
        context: values that the template names; a missing one is an error.
        name: name of the file.

    Returns:
        The page.

    Raises:
        OutputError: if the page cannot be written.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    content = environment.get_template(template).render(context)
    try:
        write_text(folder / name, content)
    except OSError as error:
        raise OutputError(f"cannot write {folder / name}: {error.strerror or error}") from None
    return folder / name


def data_uri(kind: str, content: bytes) -> str:
    """Return the data URI that embeds content into a page.

    Args:
        kind: MIME type, for example ``image/png``.
        content: the content.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def interval_cell(interval: Interval | None, digits: int) -> tuple[str, str] | None:
    """Return the estimate and its interval as texts; the second is empty without a spread.

    Args:
        interval: the interval; None for an empty cell.
        digits: digits after the decimal point.
    """
    if interval is None:
        return None
    spread = format_interval(interval, digits, style="{low} to {high}") if interval.known else ""
    estimate = format_interval(interval, digits, style="{estimate}")
    return estimate.replace("-", "\N{MINUS SIGN}"), spread.replace("-", "\N{MINUS SIGN}")
