"""``policykd view``: watch policies on skills, in the browser.

It parses options and prints; the work is done by the packages it calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from policykd.cli.output import Bars, say_where


@dataclass(frozen=True)
class View:
    """Record policies on skills into a page that plays them in the browser, side by side."""

    policies: tyro.conf.Positional[tuple[Path, ...]]
    """Policy files, or folders of runs; for example a student and its expert."""
    skills: tuple[str, ...] = ()
    """Skills to show; default all skills that the policies were trained on."""
    out: Path = Path("view.html")
    """Page to write."""
    seconds: float = 8.0
    """Length of every episode, s; a fall ends it earlier."""
    seed: int = 0
    """Seed of tracks and initial states, shared by all policies."""

    def run(self, console: Console) -> None:
        """Record, write the page and print its path.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.agents.files.policy_file import load_named
        from policykd.envs.skill_records import read_skill
        from policykd.report.player import record_clip, write_player

        loaded = load_named(self.policies)
        trained = {name: policy.manifest for policy in loaded.values() for name in policy.manifest.skills}
        progress, clips = Bars(console), []
        progress.begin("record", len(loaded) * len(self.skills or trained), "episodes")
        for name, policy in loaded.items():
            groups = tuple(policy.policy.groups)
            skills = [read_skill(text, groups, [policy.manifest.skill_records]) for text in self.skills]
            skills = skills or [manifest.skill(text, groups) for text, manifest in trained.items()]
            for skill in skills:
                clips.append(record_clip(name, policy.policy, skill, seed=self.seed, seconds=self.seconds))
                progress.update("record", len(clips))
        progress.end("record")
        say_where(console, write_player(clips, self.out))
