"""Tables and phrases found in Markdown pages and compared with what the results say."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from doc_figures.registry import Rows

MARK = re.compile(r"^<!-- figures: ([\w-]+) -->$")
"""A table that is made from results."""

WRITTEN = re.compile(r"^<!-- ([\w-]+): begin -->$")
"""A table that another command writes; it is compared where a function of this name makes it, too."""

BY_HAND = re.compile(r"^<!-- by hand: (.+) -->$")
"""A table that no committed result stands behind, and why."""

_RULE = re.compile(r"^\|( :?-+:? \|)+$")
_MEASURED = re.compile(r"\d\.\d|\d{2,}")


@dataclass(frozen=True)
class Difference:
    """Where a page and the results differ.

    Attributes:
        page: file below docs/.
        place: table, row and column, or "text".
        page_says: what stands in the page.
        results_say: what the results say.
        files: the results.
    """

    page: str
    place: str
    page_says: str
    results_say: str
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return one line."""
        where = f" ({', '.join(self.files)})" if self.files else ""
        return (
            f"docs/{self.page}, {self.place}: the page says {self.page_says}, the results say {self.results_say}{where}"
        )


@dataclass(frozen=True)
class PageTable:
    """A table of a page.

    Attributes:
        line: number of its head in the page, from 1.
        mark: the name in the mark in front of it, or None.
        written: whether the mark is that of another command.
        by_hand: the reason in the mark in front of it, or None.
        head: names of the columns.
        body: cells.
    """

    line: int
    mark: str | None
    written: bool
    by_hand: str | None
    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]

    @property
    def is_measured(self) -> bool:
        """Whether it looks like measured figures: a decimal or two digits in at least five places."""
        return sum(len(_MEASURED.findall(cell)) for row in self.body for cell in row) >= 5


def find_tables(text: str) -> list[PageTable]:
    """Return the tables of a page in order."""
    lines, found = text.splitlines(), []
    for i, line in enumerate(lines[1:], 1):
        if _RULE.match(line) and lines[i - 1].startswith("|"):
            end = i + 1
            while end < len(lines) and lines[end].startswith("|"):
                end += 1
            before = lines[i - 2] if i > 1 else ""
            written, hand = WRITTEN.match(before), BY_HAND.match(before)
            mark = MARK.match(before) or written
            body = tuple(split_row(row) for row in lines[i + 1 : end])
            found.append(PageTable(i, mark and mark[1], bool(written), hand and hand[1], split_row(lines[i - 1]), body))
    return found


def split_row(line: str) -> tuple[str, ...]:
    """Return the cells of a line of a table."""
    return tuple(cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|"))


def plain(text: str) -> str:
    """Return text without emphasis and with single spaces: bold figures are a choice of the person who writes."""
    return " ".join(text.replace("**", "").split())


def compare_table(page: str, name: str, found: PageTable, made: Rows, files: tuple[str, ...]) -> list[Difference]:
    """Return where the body of a table differs from the rows that the results give."""
    if len(found.body) != len(made):
        return [Difference(page, f"table {name}", f"{len(found.body)} rows", f"{len(made)} rows", files)]
    differences, label = [], ""
    for row, cells in zip(found.body, made, strict=True):
        label = row[0] or label
        for i, column in enumerate(found.head):
            wanted = cells[i] if i < len(cells) else ""
            if wanted is not None and (i >= len(row) or plain(row[i]) != plain(wanted)):
                place = f"table {name}, row {label!r}, column {column!r}"
                differences.append(
                    Difference(page, place, repr(row[i]) if i < len(row) else "nothing", repr(wanted), files)
                )
    return differences


def compare_phrase(page: str, text: str, phrase: str, files: tuple[str, ...]) -> list[Difference]:
    """Return nothing if the phrase stands in the page, else the passage that is most like it."""
    words, wanted = plain(text).split(), plain(phrase)
    if wanted in " ".join(words):
        return []
    return [Difference(page, "text", repr(_closest(words, wanted.split())), repr(wanted), files)]


def _closest(words: Sequence[str], wanted: Sequence[str]) -> str:
    """Return the window of the words that shares most words, in order, with those that are wanted."""
    size, bare = len(wanted), [word.strip(".,:;") for word in words]
    match = difflib.SequenceMatcher(None, b=[word.strip(".,:;") for word in wanted], autojunk=False)

    def likeness(start: int) -> float:
        match.set_seq1(bare[start : start + size])
        return match.ratio() if match.real_quick_ratio() > 0 and match.quick_ratio() > 0.3 else 0.0

    best = max(range(max(1, len(words) - size + 1)), key=likeness)
    return " ".join(words[best : best + size]).strip(".,:;")


def rewrite_table(text: str, found: PageTable, made: Rows) -> str:
    """Return the page with the figures of a table brought up to date; rows that agree keep their emphasis.

    Cells by a person stay where the number of rows is the same; new rows are written in full.
    """
    lines, same = text.splitlines(keepends=True), len(found.body) == len(made)
    first, rows = found.line + 1, []
    for i, cells in enumerate(made):
        old = found.body[i] if same else ()
        new = [
            old[j] if j < len(old) and (cell is None or plain(old[j]) == plain(cell)) else (cell or "")
            for j, cell in enumerate(cells)
        ]
        kept = bool(old) and tuple(new) == old
        rows.append(lines[first + i] if kept else f"| {' | '.join(new)} |\n".replace("|  |", "| |"))
    return "".join([*lines[:first], *rows, *lines[first + len(found.body) :]])


def has_bare_mark(text: str, name: str) -> bool:
    """Return whether a page has the mark of a table, but no table behind it yet."""
    marked = any(found.mark == name for found in find_tables(text))
    return not marked and _mark(name) in text.splitlines()


def fill_mark(text: str, name: str, head: Sequence[str], made: Rows) -> str:
    """Return the page with a table behind its bare mark."""
    cells = [head, ["---"] * len(head), *([cell or "" for cell in row] for row in made)]
    rows = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return text.replace(f"{_mark(name)}\n", f"{_mark(name)}\n{rows}\n", 1)


def _mark(name: str) -> str:
    return f"<!-- figures: {name} -->"
