"""``policykd card``: a folder about a policy that opens from disk and that a model hub takes.

Options and printing only; the work is in ``policykd.report.pages.card``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from policykd.cli.output import say, say_where
from policykd.cli.overrides import from_options


@dataclass(frozen=True)
class Card:
    """Write a card of a policy: skills, retention, inputs, actions, lineage, hashes, films; upload it on request."""

    policy: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    out: Path = Path("card")
    """Folder: index.html to open, README.md for a hub, and the policy itself."""
    evaluation: Path | None = None
    """JSON file of `policykd evaluate` with the policy and its experts."""
    name: str = ""
    """The policy's name in the evaluation; default the only one that is not an expert."""
    title: str = ""
    """Title; default the robot and the skills."""
    license: str = ""
    """Identifier of a license, such as mit or cc-by-4.0."""
    film: bool = False
    """Film the policy on each of its skills."""
    seed: int = 0
    """Seed of the films."""
    search: tuple[Path, ...] = ()
    """Folders in which parents are searched first; then those around the policy's run."""
    push: str = ""
    """Upload the folder to this repository of the Hugging Face Hub, such as me/quadruped; needs policykd[hub]."""

    def run(self, console: Console) -> None:
        """Write the card, and upload it on request.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.agents.files.policy_file import load_policy
        from policykd.report.hub import check_repository, push_folder
        from policykd.report.pages.card import CardOptions, write_card

        if self.push:
            check_repository(self.push)
        films = []
        if self.film:
            from policykd.report.video import film_policy

            films = film_policy(load_policy(self.policy), self.out / "videos", seed=self.seed)
        say_where(console, write_card(self.policy, self.out, from_options(CardOptions, self), films))
        if self.push:
            say(console, f"uploaded: {push_folder(self.out, self.push)}")
