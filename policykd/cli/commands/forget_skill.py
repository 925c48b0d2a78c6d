"""``policykd forget-skill``: a policy file with one skill less in its list.

Options and printing only; the work is in ``policykd.agents.lineage.undo``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from policykd.cli.output import say, say_where


@dataclass(frozen=True)
class ForgetSkill:
    """Take a skill off a policy's list, so that later merges need not retain it; the weights stay the same."""

    policy: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    skill: tyro.conf.Positional[str]
    """Skill to take off the list, for example biped/gaps."""
    out: Path
    """New policy file: a folder, or a .zip."""

    def run(self, console: Console) -> None:
        """Write the file and print the skills that are left.

        Raises:
            PolicykdError: for a skill that the policy does not have, or its last one.
        """
        from policykd.agents.lineage import forget_skill

        manifest = forget_skill(self.policy, self.skill, self.out)
        say(console, f"skills: {', '.join(manifest.skills)}")
        say(console, f"the weights are unchanged: the policy still acts as before on {self.skill}")
        say_where(console, self.out)
