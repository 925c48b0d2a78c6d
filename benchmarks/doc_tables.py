"""Tables of benchmarks in the documentation: written from committed JSON files, between two markers of a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from policykd.errors import OutputError


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def between(page: str, name: str, text: str) -> str:
    """Return a page with the text between ``<!-- NAME -->`` and ``<!-- end NAME -->`` replaced.

    Raises:
        OutputError: if the page does not hold both markers, once each, in this order.
    """
    first, last = f"<!-- {name} -->", f"<!-- end {name} -->"
    if page.count(first) != 1 or page.count(last) != 1 or page.index(first) > page.index(last):
        raise OutputError(f"the page needs the lines {first} and {last}, once each, in this order")
    head, rest = page.split(first)
    return f"{head}{first}\n{text}\n{last}{rest.split(last)[1]}"


def write_between(path: Path, name: str, text: str) -> None:
    """Replace the text between the markers of a page; errors as in :func:`between`."""
    path.write_text(between(path.read_text(), name, text))
