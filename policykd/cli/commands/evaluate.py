"""``policykd evaluate``: measure reward, success, distance and retention of policies on skills.

Options and printing only; the work is in ``policykd.evaluation``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console

from policykd.cli.options import Device, Threads
from policykd.cli.output import Bars, say, say_where

if TYPE_CHECKING:
    from policykd.agents.files.policy_file import LoadedPolicy


@dataclass(frozen=True)
class Evaluate:
    """Measure policies on skills: reward, success, distance, retention, with 95 % intervals."""

    policies: tyro.conf.Positional[tuple[Path, ...]]
    """Policy files, or folders of runs."""
    skills: tuple[str, ...] = ()
    """Skills to evaluate on; default all skills that the policies were trained on."""
    episodes: int = 64
    """Episodes per policy and skill, on fixed tracks shared by all policies."""
    seed: int = 0
    """Seed of tracks and initial states."""
    seconds: float | None = None
    """Length of an episode, s; default that of each skill. Tracks are long enough for it."""
    honest: bool = False
    """Simulate robots in space with a time step of 2.5 ms, more solver iterations and colliding shins."""
    noise: bool = False
    """Sample actions instead of taking the policies' means."""
    out: Path = Path("evaluation.json")
    """JSON file with every episode's outcome; the table goes to a .csv and a .tex file next to it."""
    threads: Threads = None
    device: Device = "cpu"

    def run(self, console: Console) -> None:
        """Evaluate, save and print a table.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.agents.files.policy_file import load_named
        from policykd.agents.files.skills import ASKS, skills_for, unheard
        from policykd.envs.honest import honest_skill
        from policykd.envs.skills import lasting
        from policykd.evaluation import evaluate, evaluation_table
        from policykd.evaluation.table import paper_table
        from policykd.paper_tables import write_paper_tables
        from policykd.storage import prepare_file

        prepare_file(self.out)
        policies = load_named(self.policies)
        skills = skills_for([loaded.manifest for loaded in policies.values()], self.skills)
        if self.seconds is not None:
            skills = [lasting(skill, self.seconds) for skill in skills]
        if self.honest:
            skills = [honest_skill(skill) for skill in skills]
        experts = {s: name for s, name in expert_of(policies).items() if s in {k.id for k in skills}}
        evaluation = evaluate(
            {name: loaded.policy for name, loaded in policies.items()},
            skills,
            episodes=self.episodes,
            seed=self.seed,
            threads=self.threads,
            device=self.device,
            noise=self.noise,
            experts=experts,
            progress=Bars(console),
        )
        evaluation.save(self.out)
        tables = write_paper_tables(self.out, paper_table(evaluation))
        console.print(evaluation_table(evaluation))
        for skill in skills:
            for name, loaded in policies.items():
                for group in unheard(loaded.manifest, skill):
                    say(console, f"note: {name} does not read {group}, which says {ASKS[group]}, on {skill.id}")
        for path in (self.out, *tables):
            say_where(console, path)


def expert_of(policies: dict[str, LoadedPolicy]) -> dict[str, str]:
    """Map each skill to the name of the policy that was trained or imported for that skill alone.

    A student's numbered tasks (``gym:Walker2d-v5#1``) belong to its parents, in their order.
    """
    found, by_weights = {}, {}
    for name, loaded in policies.items():
        if loaded.manifest.operation in ("train", "import") and len(loaded.manifest.skills) == 1:
            found[loaded.manifest.skills[0]] = name
            by_weights[loaded.manifest.weights_sha256] = name
    for loaded in policies.values():
        skills, parents = loaded.manifest.skills, loaded.manifest.parents
        if len(skills) == len(parents) and all("#" in skill for skill in skills):
            pairs = zip(skills, (by_weights.get(parent.weights_sha256) for parent in parents), strict=True)
            found |= {skill: name for skill, name in pairs if name is not None}
    return found
