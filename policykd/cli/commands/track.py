"""``policykd track``: the log of a run in Weights & Biases or trackio.

Options and printing only; the work is in ``policykd.tracking``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from policykd.cli.output import say


@dataclass(frozen=True)
class Track:
    """Send the log of a run to Weights & Biases or trackio, also while it runs; the run itself does not change."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a training, a merge or a fine-tuning."""
    to: Literal["wandb", "trackio"]
    """Where to; the package of this name is an extra."""
    project: str = "policykd"
    """Project in it."""
    name: str | None = None
    """Name of the run in it; default that of the folder."""
    offline: bool = False
    """Write local files only; `wandb sync` sends them later. Trackio is always local."""
    follow: bool = False
    """Go on until the run has ended."""

    def run(self, console: Console) -> None:
        """Send the rows and say how many.

        Raises:
            PolicykdError: for a folder without a run, or a package that is missing.
        """
        from policykd.tracking import track_run

        count = track_run(
            self.folder, self.to, project=self.project, name=self.name, offline=self.offline, follow=self.follow
        )
        say(console, f"{self.to}: {count} rows of {self.folder}")
