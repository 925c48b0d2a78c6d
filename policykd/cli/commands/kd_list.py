"""``policykd kd list``: list losses and systems, without loading torch.

Options and printing only; the work is in ``policykd.kd.registry``.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class KdList:
    """List the losses and systems of supervised knowledge distillation."""

    family: str | None = None
    """Only losses of this family, for example relational."""

    def run(self, console: Console) -> None:
        """Print one row per loss and, without a family, one per system.

        Raises:
            UnknownNameError: for an unknown family.
        """
        _print_losses(self.family, console)
        if self.family is None:
            _print_systems(console)


def _print_losses(family: str | None, console: Console) -> None:
    """Print one row per loss.

    Args:
        family: only losses of this family; None for all.
        console: console to print on.

    Raises:
        UnknownNameError: for an unknown family.
    """
    from policykd.kd.registry import LOSSES

    table = Table("name", "title", "family", "needs", "paper", "year", title="losses")
    for info in LOSSES.list(family=family):
        table.add_row(info.name, info.title, info.family, ", ".join(info.needs), info.paper, str(info.year))
    console.print(table)


def _print_systems(console: Console) -> None:
    """Print one row per system: its name and the first line of its module's docstring."""
    from policykd.kd import systems

    table = Table("name", "method", title="systems")
    for name in systems.SYSTEMS:
        table.add_row(name, _summary(f"{systems.__name__}.{name}"))
    console.print(table)


def _summary(module: str) -> str:
    """Return the first line of a module's docstring, read from its file because importing a system loads torch."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:  # registered from outside: not a file of the package
        return ""
    return (ast.get_docstring(ast.parse(Path(found.origin).read_text(encoding="utf-8"))) or "").partition("\n")[0]
