"""``policykd diff``: what a runtime of one policy must change for another.

Options and printing only; the work is in ``policykd.agents.files.difference``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from policykd.cli.output import say, say_where


@dataclass(frozen=True)
class Diff:
    """Compare what two policies read and how they act: groups, order, sizes, gains, limits, rate."""

    first: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    second: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    out: Path | None = None
    """JSON file with the differences; default none."""

    def run(self, console: Console) -> None:
        """Compare and print a table.

        Raises:
            PolicykdError: for a file that is not a policy.
        """
        from policykd.agents.files.difference import differences
        from policykd.agents.files.policy_file import read_manifest
        from policykd.storage import prepare_file, write_json

        if self.out is not None:
            prepare_file(self.out)
        found = differences(read_manifest(self.first), read_manifest(self.second))
        if self.out is not None:
            write_json(
                self.out, {"policies": [str(self.first), str(self.second)], "differences": list(map(asdict, found))}
            )
        if found:
            table = Table("", str(self.first), str(self.second))
            for row in found:
                table.add_row(row.what, row.first or "-", row.second or "-")
            console.print(table)
        else:
            say(console, "no difference: a runtime of one policy runs the other")
        if self.out is not None:
            say_where(console, self.out)
