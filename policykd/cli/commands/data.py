"""``policykd data``: labeled states to Minari datasets, and Minari datasets to labeled states.

Options and printing only; the work is in ``policykd.merge.data.minari``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from policykd.cli.output import say


@dataclass(frozen=True)
class DataExport:
    """Write the labeled states of a merge as a Minari dataset (extra [minari])."""

    data: tyro.conf.Positional[Path]
    """Labeled dataset, or folder of a merge."""
    dataset: tyro.conf.Positional[str]
    """Name of the Minari dataset, such as my-lab/quadruped-labels-v0; it goes to MINARI_DATASETS_PATH."""
    author: str | None = None
    """Author that Minari records."""

    def run(self, console: Console) -> None:
        """Convert and print the size.

        Raises:
            PolicykdError: for bad input, or without Minari.
        """
        from policykd.merge.data.folder import LabeledData
        from policykd.merge.data.minari import write_minari

        data = LabeledData.open(self.data)
        episodes = write_minari(data, self.dataset, author=self.author)
        say(console, f"{episodes:,} episodes of {', '.join(s.id for s in data.manifest.skills)} -> {self.dataset}")


@dataclass(frozen=True)
class DataImport:
    """Convert a Minari dataset of this machine to labeled states, for `policykd merge --data` (extra [minari])."""

    dataset: tyro.conf.Positional[str]
    """Name of the Minari dataset; `minari download NAME` gets one."""
    out: Path = Path("data")
    """Folder of the labeled states."""
    skill: str | None = None
    """Task in whose environment a foreign dataset was recorded: gym:ID; its recorded actions become the labels."""

    def run(self, console: Console) -> None:
        """Convert and print the size.

        Raises:
            PolicykdError: for bad input, or without Minari.
        """
        from policykd.envs.foreign.skill import gym_skill
        from policykd.merge.data.minari import read_minari

        data = read_minari(self.dataset, self.out, None if self.skill is None else gym_skill(self.skill))
        states = sum(shard.steps * shard.simulations for shard in data.manifest.shards)
        say(console, f"{states:,} labeled states of {', '.join(s.id for s in data.manifest.skills)} -> {self.out}")
