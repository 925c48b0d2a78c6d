"""``policykd routing``: which expert of a mixture acts on which skill.

Options and printing only; the work is in ``policykd.evaluation.routing``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from policykd.cli.options import Threads
from policykd.cli.output import say_where


@dataclass(frozen=True)
class RoutingCommand:
    """Measure which expert of a mixture (merge --architecture moe) acts on which skill."""

    policy: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    skills: tuple[str, ...] = ()
    """Skills; default all that the policy was made for."""
    episodes: int = 64
    """Episodes per skill."""
    seed: int = 0
    """Seed of the tracks."""
    out: Path = Path("routing.json")
    """JSON file with all figures; a results page shows the one in its folder."""
    threads: Threads = None

    def run(self, console: Console) -> None:
        """Measure, save and print a table.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.agents.files.policy_file import load_policy
        from policykd.agents.files.skills import skills_for
        from policykd.evaluation.routing import measure_routing
        from policykd.storage import write_json

        loaded = load_policy(self.policy)
        skills = skills_for([loaded.manifest], self.skills)
        found = measure_routing(loaded.policy, skills, episodes=self.episodes, seed=self.seed, threads=self.threads)
        write_json(self.out, found.to_json())
        experts = range(len(next(iter(found.skills.values())).weights))
        title = f"mean weight of every expert, and how often it leads; {self.episodes} episodes per skill"
        table = Table("skill", *(f"expert {i + 1}" for i in experts), "evenness", title=title, title_justify="left")
        for skill, one in found.skills.items():
            cells = (f"{weight:.2f} ({lead:.0%})" for weight, lead in zip(one.weights, one.leads, strict=True))
            table.add_row(skill, *cells, f"{one.evenness:.2f}")
        console.print(table)
        console.print(f"the leading expert tells {found.information:.2f} bits of the skill", highlight=False)
        say_where(console, self.out)
