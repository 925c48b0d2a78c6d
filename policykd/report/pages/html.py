"""What every page has in common: templates, embedded data, and a file that is written whole."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from policykd.errors import OutputError
from policykd.stats import Interval, format_interval
from policykd.storage import write_text

PAGE = "index.html"


def write_html(folder: Path, template: str, context: Mapping[str, Any]) -> Path:
    """Fill a template and write it as ``index.html`` of a folder.

    Args:
        folder: Where to.
        template: Name of a file in ``templates``.
        context: What the template names; a name that is missing is an error.

    Returns:
        The page.

    Raises:
        OutputError: The page cannot be written.
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
        write_text(folder / PAGE, content)
    except OSError as error:
        raise OutputError(f"cannot write {folder / PAGE}: {error.strerror or error}") from None
    return folder / PAGE


def data_uri(kind: str, content: bytes) -> str:
    """Content that is embedded into a page.

    Args:
        kind: MIME type, for example ``image/png``.
        content: The file.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def interval_cell(interval: Interval | None, digits: int) -> tuple[str, str] | None:
    """The estimate and the words beside it, empty where nothing is known of the spread.

    Args:
        interval: the interval; None for an empty cell.
        digits: digits behind the point.
    """
    if interval is None:
        return None
    spread = format_interval(interval, digits, style="{low} to {high}") if interval.known else ""
    estimate = format_interval(interval, digits, style="{estimate}")
    return estimate.replace("-", "\N{MINUS SIGN}"), spread.replace("-", "\N{MINUS SIGN}")
