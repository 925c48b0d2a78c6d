"""``policykd demo``: the whole pipeline from nothing to a student and a results page.

Options and printing only; the work is in ``policykd.demo``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from policykd.cli.options import Cores
from policykd.cli.output import Bars, say
from policykd.errors import ConfigError, UnknownNameError


@dataclass(frozen=True)
class Demo:
    """Train experts, merge them, evaluate and film the student; an interrupted demo is continued."""

    out: Path = Path("results/demo")
    """Results folder; open its index.html."""
    robot: str = "quadruped"
    """Robot of the demo: quadruped (five terrains) or biped (three)."""
    skills: tuple[str, ...] = ()
    """Skills of the experts; default those of the robot's demo."""
    episodes: int = 64
    """Evaluation episodes per policy and skill."""
    seed: int = 0
    """Random seed."""
    threads: Cores = None
    video: bool = True
    """Film the student on every skill."""

    def run(self, console: Console) -> None:
        """Run the demo and print its evaluation.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.demo import DEMO_PLANS, run_demo
        from policykd.envs.skill_records import read_skill
        from policykd.evaluation import evaluation_table

        if self.robot not in DEMO_PLANS:
            raise UnknownNameError("robot of a demo", self.robot, DEMO_PLANS)
        names = self.skills or DEMO_PLANS[self.robot].skills
        if len(names) < 2:
            raise ConfigError("the demo merges experts; give at least two, for example --skills biped/flat biped/gaps")
        outcome = run_demo(
            [read_skill(name) for name in names],
            self.out,
            episodes=self.episodes,
            seed=self.seed,
            threads=self.threads,
            video=self.video,
            progress=Bars(console),
        )
        console.print(evaluation_table(outcome.evaluation))
        say(console, f"{outcome.seconds:.0f} s in all; open {outcome.page}")
