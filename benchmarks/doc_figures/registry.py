"""Registers of tables and phrases, which the modules of this package fill when they are imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policykd.storage import read_json

Rows = Sequence[Sequence[str | None]]
"""Cells of a table's body. None is a cell that a person writes, such as a figure of another publication."""


@dataclass(frozen=True)
class Figures:
    """Figures of one page that come from some files.

    Attributes:
        page: file below docs/.
        files: files below benchmarks/results that they come from, in the order of the function's arguments.
        make: function of the files' contents.
        head: names of the columns of a table that its page shows only once the files exist; until then its mark stands
            alone. Empty for a table that a person puts into the page.
    """

    page: str
    files: tuple[str, ...]
    make: Callable[..., Any]
    head: tuple[str, ...] = ()

    def read(self, results: Path) -> Any:
        """Return what the files in ``results`` say."""
        return self.make(*(read_json(results / file) for file in self.files))

    def is_awaited(self, results: Path) -> bool:
        """Return whether this is a table that its page does not show yet, because a file is missing."""
        return bool(self.head) and not all((results / file).exists() for file in self.files)


TABLES: dict[str, Figures] = {}
"""Tables by the name in their mark."""

PHRASES: dict[str, Figures] = {}
"""Lists of phrases by the name of their function."""


def table(page: str, *files: str, head: Sequence[str] = ()) -> Callable[[Callable[..., Rows]], Callable[..., Rows]]:
    """Register the function below as a table of ``page``; its name, with hyphens, is the name in the mark."""
    return _register(TABLES, page, files, tuple(head))


def phrases(page: str, *files: str) -> Callable[[Callable[..., list[str]]], Callable[..., list[str]]]:
    """Register the function below as a list of phrases of ``page``."""
    return _register(PHRASES, page, files)


def _register(register: dict[str, Figures], page: str, files: tuple[str, ...], head: tuple[str, ...] = ()) -> Any:
    def add(make: Callable[..., Any]) -> Callable[..., Any]:
        register[make.__name__.replace("_", "-")] = Figures(page, files, make, head)
        return make

    return add
