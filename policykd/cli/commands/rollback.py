"""``policykd rollback``: the policy of an earlier stage of a run, or an earlier parent, as a file of its own.

Options and printing only; the work is in ``policykd.curriculum.rollback``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from policykd.cli.output import say, say_where


@dataclass(frozen=True)
class Rollback:
    """Go back to the policy of an earlier stage of a curriculum, or to an earlier parent; the copy is exact."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a run, or a policy file."""
    to: str
    """Stage of the run, for example merge-steps; or a parent as policykd lineage shows it: its name or its hash."""
    out: Path
    """New policy file: a folder, or a .zip."""
    search: tuple[Path, ...] = ()
    """Folders in which parents are searched, in addition to those around the run."""

    def run(self, console: Console) -> None:
        """Copy the policy and print the skills that it lacks.

        Raises:
            PolicykdError: for an unknown stage, a parent whose file is not found, or a damaged file.
        """
        from policykd.agents.lineage.tree import shown_path
        from policykd.curriculum.rollback import rollback

        found = rollback(self.folder, self.to, self.out, search=self.search)
        lacking = f"; without {', '.join(found.lacking)}" if found.lacking else ""
        say(console, f"copied {shown_path(found.source)}: {', '.join(found.manifest.skills)}{lacking}")
        say_where(console, self.out)
