"""``policykd view``: watch policies on skills, in a window or in the browser.

It parses options and prints; the work is done by the packages it calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console

from policykd.cli.output import Bars, say_where
from policykd.errors import ConfigError

if TYPE_CHECKING:
    from policykd.agents.files.policy_file import LoadedPolicy
    from policykd.envs.skills import Skill


@dataclass(frozen=True)
class View:
    """Watch policies on skills: in MuJoCo's viewer where there is a display, otherwise in a page that plays them.

    In the viewer, keys switch policy, skill, difficulty and speed; the page shows policies side by side.
    """

    policies: tyro.conf.Positional[tuple[Path, ...]]
    """Policy files, or folders of runs; for example a student and its expert."""
    skills: tuple[str, ...] = ()
    """Skills to show; default all skills that the policies were trained on."""
    out: Path | None = None
    """Page to write instead of opening a window; without a display, view.html."""
    seconds: float = 8.0
    """Length of every episode, s; a fall ends it earlier."""
    seed: int = 0
    """Seed of tracks and initial states, shared by all policies."""

    def run(self, console: Console) -> None:
        """Open a window, or record, write the page and print its path.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.agents.files.policy_file import load_named
        from policykd.report.window import Window, has_display
        from policykd.storage import prepare_file

        if self.out is not None:
            prepare_file(self.out)
        loaded = load_named(self.policies)
        self._check(loaded)
        if self.out is None and has_display():
            policies = {name: policy.policy for name, policy in loaded.items()}
            groups = tuple(dict.fromkeys(group for policy in policies.values() for group in policy.groups))
            Window(policies, self._skills(loaded, groups, list(loaded)), seed=self.seed, say=console.print).run()
            return
        say_where(console, self._record(console, loaded))

    def _check(self, loaded: Mapping[str, LoadedPolicy]) -> None:
        """Raise ConfigError for a skill that is a gymnasium environment."""
        from policykd.envs.foreign.skill import PREFIX

        trained = [name for policy in loaded.values() for name in policy.manifest.skills]
        for name in self.skills or trained:
            if name.startswith(PREFIX):
                raise ConfigError(
                    f"{name} is a gymnasium environment, which policykd view cannot show; film it: "
                    f"policykd render {self.policies[0]} --skill '{name}'"
                )

    def _skills(
        self, loaded: Mapping[str, LoadedPolicy], groups: tuple[str, ...], described_by: Sequence[str]
    ) -> list[Skill]:
        """Return the skills to show with these observation groups; without names, those of all policies.

        Args:
            loaded: the policies.
            groups: observation groups.
            described_by: policies whose records say what the names of skills mean.
        """
        from policykd.envs.skill_records import read_skill

        if self.skills:
            records = [loaded[name].manifest.skill_records for name in described_by]
            return [read_skill(text, groups, records) for text in self.skills]
        trained = {name: policy.manifest for policy in loaded.values() for name in policy.manifest.skills}
        return [manifest.skill(text, groups) for text, manifest in trained.items()]

    def _record(self, console: Console, loaded: Mapping[str, LoadedPolicy]) -> Path:
        """Record the episodes and write the page."""
        from policykd.report.player import Clip, record_clip, write_player

        shown = {name: self._skills(loaded, tuple(policy.policy.groups), [name]) for name, policy in loaded.items()}
        progress, clips = Bars(console), list[Clip]()
        progress.begin("record", sum(map(len, shown.values())), "episodes")
        for name, skills in shown.items():
            for skill in skills:
                clips.append(record_clip(name, loaded[name].policy, skill, seed=self.seed, seconds=self.seconds))
                progress.update("record", len(clips))
        progress.end("record")
        return write_player(clips, self.out or Path("view.html"))
