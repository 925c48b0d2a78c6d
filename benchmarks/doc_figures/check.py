"""The check: every table, phrase and generated page against the results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from doc_figures import (  # noqa: F401  (they fill the registers)
    control,
    curricula,
    demo,
    exporting,
    importing,
    merging,
    speed,
    students,
    tuning,
)
from doc_figures.pages import (
    Difference,
    PageTable,
    compare_phrase,
    compare_table,
    fill_mark,
    find_tables,
    has_bare_mark,
    rewrite_table,
)
from doc_figures.registry import PHRASES, TABLES, Figures
from policykd.errors import OutputError

GENERATED = ("kd_systems.md", "kd_evidence.md", "kd_bench_")
"""Beginnings of the names of pages that `benchmarks/kd_evidence.py` writes whole."""


def pages(docs: Path) -> list[Path]:
    """Return the pages that hold figures next to text by hand."""
    return [page for page in sorted(docs.glob("*.md")) if not page.name.startswith(GENERATED)]


def compare_all(docs: Path, results: Path) -> list[Difference]:
    """Return all differences of tables and phrases, and tables that no result and no mark stands behind."""
    differences, texts = [], {page.name: page.read_text(encoding="utf-8") for page in pages(docs)}
    marked = {}
    for page, text in texts.items():
        for found in find_tables(text):
            differences += _unmarked(page, found)
            if found.mark is not None:
                marked[found.mark] = (page, found)
    for name, figures in TABLES.items():
        page, found = marked.pop(name, ("", None))
        if figures.is_awaited(results):
            differences += _awaited(name, figures, found, texts.get(figures.page, ""))
        elif found is None or page != figures.page:
            differences.append(Difference(figures.page, f"table {name}", "nothing", "a table", figures.files))
        else:
            differences += compare_table(page, name, found, figures.read(results), figures.files)
    for name, (page, found) in marked.items():
        if not found.written:
            differences.append(Difference(page, f"table {name}", "a mark", "nothing of this name"))
    for figures in PHRASES.values():
        for phrase in figures.read(results):
            differences += compare_phrase(figures.page, texts[figures.page], phrase, figures.files)
    return differences


def _awaited(name: str, figures: Figures, found: PageTable | None, text: str) -> list[Difference]:
    """Return nothing if a table whose results are missing is a mark alone."""
    if found is None and has_bare_mark(text, name):
        return []
    says = "nothing" if found is None else "a table"
    return [Difference(figures.page, f"table {name}", says, "nothing yet: a mark alone", figures.files)]


def _unmarked(page: str, found: PageTable) -> list[Difference]:
    if found.mark is not None or found.by_hand is not None or not found.is_measured:
        return []
    place = f"table in line {found.line}"
    return [
        Difference(page, place, f"figures under {', '.join(found.head)!r}", "nothing: mark it as figures or by hand")
    ]


def compare_generated(docs: Path, made: dict[str, str]) -> list[Difference]:
    """Return the first line in which each page that is generated whole differs.

    Args:
        docs: the folder of the pages.
        made: file name to text, as `benchmarks/kd_evidence.py` makes them.
    """
    differences = []
    for name, text in made.items():
        old = (docs / name).read_text(encoding="utf-8") if (docs / name).exists() else ""
        for i, (before, after) in enumerate(_pairs(old.splitlines(), text.splitlines()), 1):
            if before != after:
                differences.append(Difference(name, f"line {i}", repr(before), repr(after)))
                break
    return differences


def _pairs(first: list[str], second: list[str]) -> Iterable[tuple[str | None, str | None]]:
    for i in range(max(len(first), len(second))):
        yield (first[i] if i < len(first) else None, second[i] if i < len(second) else None)


def write_all(docs: Path, results: Path) -> None:
    """Bring the figures of all marked tables up to date; phrases stay a person's work."""
    for page in pages(docs):
        text = page.read_text(encoding="utf-8")
        page.write_text(with_tables(text, results, TABLES), encoding="utf-8")


def with_tables(text: str, results: Path, tables: Mapping[str, Figures]) -> str:
    """Return a page with the figures of these tables up to date, those whose results are missing as they were."""
    for found in reversed(find_tables(text)):
        if found.mark in tables and not tables[found.mark].is_awaited(results):
            text = rewrite_table(text, found, tables[found.mark].read(results))
    for name, figures in tables.items():
        if figures.head and has_bare_mark(text, name) and not figures.is_awaited(results):
            text = fill_mark(text, name, figures.head, figures.read(results))
    return text


def write_page(page: Path, name: str, results: Path) -> None:
    """Bring one table of a page up to date; nothing is written while its results are missing.

    Raises:
        OutputError: for a page without the table's mark.
    """
    text = page.read_text(encoding="utf-8")
    if f"<!-- figures: {name} -->" not in text:
        raise OutputError(f"{page} needs the line <!-- figures: {name} --> where the table belongs")
    page.write_text(with_tables(text, results, {name: TABLES[name]}), encoding="utf-8")
