"""``policykd inject``: add observation groups, an encoder or wider layers to a trained policy.

Options and printing only; the work is in ``policykd.agents.injection``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from policykd.cli.options import EncoderText, Threads, parse_encoder
from policykd.cli.output import say


@dataclass(frozen=True)
class Inject:
    """Add observation groups to a policy, or widen its layers, without changing its actions."""

    policy: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    out: Path
    """The new policy file; it must not exist yet."""
    groups: tuple[str, ...] = ()
    """New observation groups, for example terrain."""
    mode: Literal["exact", "scaled", "random"] = "exact"
    """Initialization of the new weights: zero (outputs unchanged), scaled by --scale, or the usual one."""
    scale: float = 0.01
    """Share of the usual initialization for --mode scaled."""
    encoder: EncoderText = None
    hidden: tuple[int, ...] | None = None
    """Wider hidden layers of the actor."""
    critic_hidden: tuple[int, ...] | None = None
    """Wider hidden layers of the critic."""
    skill: str | None = None
    """Skill on which outputs are compared; default the policy's first."""
    seed: int = 0
    """Seed of the new weights and of the observations."""
    threads: Threads = None

    def run(self, console: Console) -> None:
        """Inject, and print the largest difference in outputs.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.agents.injection import inject_file

        report = inject_file(
            self.policy,
            self.out,
            self.groups,
            mode=self.mode,
            encoder=parse_encoder(self.encoder) if self.encoder else None,
            scale=self.scale,
            seed=self.seed,
            hidden=self.hidden,
            critic_hidden=self.critic_hidden,
            skill=self.skill,
            threads=self.threads,
        )
        what = f"{report.mode} injection of {', '.join(report.groups)}" if report.groups else "growth"
        say(
            console,
            f"{what}: largest difference in actions and values {report.largest_random:.2e} over random observations, "
            f"{report.largest_on_policy:.2e} on-policy -> {report.policy_path}",
        )
