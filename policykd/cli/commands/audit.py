"""``policykd audit``: which observation groups a policy uses, and what their loss costs.

Options and printing only; the work is in ``policykd.agents.audit``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from policykd.cli.options import Threads
from policykd.cli.output import say, say_where


@dataclass(frozen=True)
class AuditCommand:
    """Shuffle, freeze and delay each observation group of a policy, and measure success and change of actions."""

    policy: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    skill: str | None = None
    """Skill of the audit; default the policy's first."""
    groups: tuple[str, ...] = ()
    """Groups to disturb; default all that the policy reads."""
    episodes: int = 64
    """Episodes per group and fault, on equal tracks."""
    delay: int = 2
    """Steps by which a delayed group is late."""
    seed: int = 0
    """Seed of tracks and shuffling."""
    out: Path = Path("audit.json")
    """JSON file with all figures."""
    threads: Threads = None

    def run(self, console: Console) -> None:
        """Audit, save and print a table.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.agents.audit import FAULTS, PRIVILEGED, audit_policy
        from policykd.agents.files.policy_file import load_policy
        from policykd.agents.files.skills import skills_for
        from policykd.storage import prepare_file, write_json

        prepare_file(self.out)
        loaded = load_policy(self.policy)
        own = loaded.manifest.skills
        if self.skill is None or self.skill in own:
            skill = loaded.manifest.skill(self.skill or own[0], tuple(loaded.policy.groups))
        else:
            (skill,) = skills_for([loaded.manifest], [self.skill])
        found = audit_policy(
            loaded.policy, skill, groups=self.groups, episodes=self.episodes, delay=self.delay, seed=self.seed,
            threads=self.threads,
        )  # fmt: skip
        write_json(self.out, asdict(found))
        # Environments with rewards of any size need not have a success.
        figure, digits = ("success", ".2f") if skill.task.bounded else ("reward_per_step", ".3g")
        words, value = figure.replace("_", " "), getattr(found, figure)
        title = f"{found.skill}, {found.episodes} episodes: {words} {value:{digits}} without a fault"
        table = Table("group", *(f"{words}, {f}" for f in FAULTS), "change of actions (rms)", title=title)
        for name in dict.fromkeys(entry.group for entry in found.groups):
            rows = {entry.fault: entry for entry in found.groups if entry.group == name}
            largest = max(entry.action_change for entry in rows.values())
            table.add_row(name, *(f"{getattr(rows[f], figure):{digits}}" for f in FAULTS), f"{largest:.3f}")
        console.print(table)
        if found.unused:
            say(console, f"unused: {', '.join(found.unused)}; a student can leave them out")
        for name, features in found.dead.items():
            say(console, f"dead inputs: {len(features)} features of {name} never changed on this skill")
        hidden = [name for name in loaded.policy.groups if name in PRIVILEGED]
        if hidden:
            say(console, f"a robot does not measure: {', '.join(hidden)}; merge a student without them (--groups)")
        say_where(console, self.out)
