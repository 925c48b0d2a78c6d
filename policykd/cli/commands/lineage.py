"""``policykd lineage``: the tree of a policy's parents with the figures that their files record.

Options and printing only; the work is in ``policykd.agents.lineage``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console

from policykd.cli.output import say, say_where

if TYPE_CHECKING:
    from policykd.agents.lineage.tree import Lineage as Found


@dataclass(frozen=True)
class Lineage:
    """Show which policies a policy was made from: its parents, found by their hashes, with retention or validation."""

    policy: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    search: tuple[Path, ...] = ()
    """Folders in which parents are searched first; then those around the policy's run."""
    out: Path | None = None
    """JSON file with the lineage; default none."""

    def run(self, console: Console) -> None:
        """Print the tree.

        Raises:
            PolicykdError: for a file that is not a policy, or a folder that does not exist.
        """
        from policykd.agents.lineage import trace
        from policykd.storage import prepare_file, write_json

        if self.out is not None:
            prepare_file(self.out)
        found = trace(self.policy, self.search)
        for line in found.lines():
            say(console, line)
        _tell_what_is_missing(found, console)
        if self.out is not None:
            write_json(self.out, found.to_json())
            say_where(console, self.out)


def _tell_what_is_missing(found: Found, console: Console) -> None:
    """Print what was not found, where it was searched, and how to find it."""
    from policykd.agents.lineage.tree import shown_path

    if not found.missing:
        return
    where = ", ".join(map(shown_path, found.searched)) or "no folder"
    say(console, f"parents without a file: {len(found.missing)}; searched {where}; name others with --search FOLDER")
    for place in found.unfinished:
        say(console, f"{shown_path(place)} holds too many folders and was not searched to the end")
    for path, reason in (found.damaged or {}).items():
        say(console, f"{shown_path(path)} cannot be read: {reason}")
