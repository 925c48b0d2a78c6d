"""``policykd kd list``: the losses of supervised knowledge distillation."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class KdList:
    """List the losses of supervised knowledge distillation."""

    family: str | None = None
    """Only this family, for example relational."""

    def run(self, console: Console) -> None:
        """Print one row per loss.

        Raises:
            UnknownNameError: for an unknown family.
        """
        from policykd.kd.registry import methods

        table = Table("name", "title", "family", "needs", "paper", "year")
        for method in methods.list(family=self.family):  # type: ignore[arg-type]
            needs = ", ".join(method.needs)
            table.add_row(method.name, method.title, method.family, needs, method.paper, str(method.year))
        console.print(table)
