"""``policykd kd list``: the losses and the systems, without loading torch."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

from rich.console import Console
from rich.table import Table


def print_losses(family: str | None, console: Console) -> None:
    """Print one row per loss.

    Args:
        family: only losses of this family; None for all.
        console: where the table is printed.

    Raises:
        UnknownNameError: there is no such family.
    """
    from policykd.kd.registry import LOSSES

    table = Table("name", "title", "family", "needs", "paper", "year", title="losses")
    for info in LOSSES.list(family=family):
        table.add_row(info.name, info.title, info.family, ", ".join(info.needs), info.paper, str(info.year))
    console.print(table)


def print_systems(console: Console) -> None:
    """Print one row per system: its name and the first line of its module's docstring."""
    from policykd.kd import systems

    table = Table("name", "what it does", title="systems")
    for name in systems.SYSTEMS:
        table.add_row(name, _summary(f"{systems.__name__}.{name}"))
    console.print(table)


def _summary(module: str) -> str:
    """First line of a module's docstring, read from its file, since importing a system loads torch."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:  # registered from outside: not a file of the package
        return ""
    return (ast.get_docstring(ast.parse(Path(found.origin).read_text(encoding="utf-8"))) or "").partition("\n")[0]
