"""Links and anchors of Markdown pages, for the site and for the test that all of them lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+(?:\([^()]*\))?)\)")
_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def links(text: str) -> list[str]:
    """Return the targets of a page's links, and of none within code."""
    prose = re.sub(r"`[^`\n]*`", lambda found: "x" * len(found[0]), _FENCE.sub("", text))
    return _LINK.findall(prose)


def anchors(text: str) -> list[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.*?)\s*$", _FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        same = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", one) is not None for one in found)
        found.append(f"{slug}-{same}" if same else slug)
    return found


def targets(page: Path, text: str) -> Iterator[tuple[str, Path, str]]:
    """Yield link, file and anchor of every link of a page that is not an address."""
    for link in links(text):
        if not re.match(r"[a-z]+:", link):
            name, _, anchor = link.partition("#")
            yield link, (page.parent / name).resolve() if name else page, anchor


def broken(page: Path, text: str, root: Path) -> Iterator[str]:
    """Yield the links of a page that lead nowhere, or out of the folder ``root``."""
    for link, file, anchor in targets(page, text):
        own = file == page
        found = own or (file.exists() and root in file.parents)
        if found and anchor:
            found = file.suffix == ".md" and anchor in anchors(text if own else file.read_text("utf-8"))
        if not found:
            yield link
