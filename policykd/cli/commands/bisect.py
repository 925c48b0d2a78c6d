"""``policykd bisect``: the stage of a run that lost a skill, from recorded evaluations.

Options and printing only; the work is in ``policykd.curriculum.bisect``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from policykd.cli.output import say, say_where

if TYPE_CHECKING:
    from policykd.curriculum.bisect import Bisection


@dataclass(frozen=True)
class Bisect:
    """Find the stage of a curriculum that lost a skill; the run's own evaluations are read, nothing is simulated."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a curriculum, finished or not, or of add-skill."""
    skill: str
    """Skill, for example biped/flat."""
    by: Literal["reward", "success"] = "reward"
    """Figure that the skill is followed by: reward per step, or success."""
    bound: float = 0.1
    """Largest share of the best stage's figure that a stage may lack and still have the skill."""
    evaluation: Path | None = None
    """File of policykd evaluate to use instead of the run's own evaluations; its policies are named as the stages."""
    imports: bool = False
    """Import the packages that the run's recipe names, if it has skills or a curriculum of your own."""
    out: Path | None = None
    """JSON file with the figures and the stage; default none."""

    def run(self, console: Console) -> None:
        """Print the figures after every stage, and the stage that lost the skill.

        Raises:
            PolicykdError: for an unknown skill, or figures that were not recorded.
        """
        from policykd.curriculum.bisect import bisect_skill
        from policykd.storage import prepare_file, write_json

        if self.out is not None:
            prepare_file(self.out)
        found = bisect_skill(
            self.folder,
            self.skill,
            by=self.by,
            bound=self.bound,
            evaluation=self.evaluation,
            imports=self.imports,
        )
        table = Table("after", "stage", "reward per step", "success", "share of the best")
        for score, share in zip(found.scores, found.shares, strict=True):
            table.add_row(
                score.label, score.stage, f"{score.reward_per_step:.3f}", f"{score.success:.2f}", f"{share:.3f}"
            )
        console.print(table)
        say(console, f"figures of {found.source}")
        say(console, _verdict(found))
        if found.lost_by is not None and found.last_good is not None:
            say(console, f"go back with: policykd rollback {self.folder} --to {found.last_good.stage} --out DIR")
        if self.out is not None:
            write_json(self.out, found.to_json())
            say_where(console, self.out)


def _verdict(found: Bisection) -> str:
    """Return the result in one sentence."""
    if found.last_good is None:
        return f"no stage ever had {found.skill}"
    if found.lost_by is None:
        return f"the last stage, {found.last_good.stage}, still has {found.skill}"
    change = found.change
    by_how_much = "" if change is None else f" by {change.estimate:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
    figure = "success" if found.by == "success" else "reward per step"
    changed = f": {figure} changed{by_how_much}" if by_how_much else ""
    return f"stage {found.lost_by.stage} lost {found.skill}; {found.last_good.stage} still had it{changed}"
