"""``policykd inject``: more observation groups, an encoder, or wider layers for a trained policy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from policykd.cli.encoder import EncoderText, parse_encoder


@dataclass(frozen=True)
class Inject:
    """Add observation groups to a policy, or widen its layers, without changing what it does."""

    policy: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    out: Path
    """The new policy file; nothing may be there."""
    groups: tuple[str, ...] = ()
    """New observation groups, for example terrain."""
    mode: Literal["exact", "scaled", "random"] = "exact"
    """How new weights begin: zero (outputs unchanged), a share of the usual (--scale), or as usual."""
    scale: float = 0.01
    """Share of the usual initialization for --mode scaled."""
    encoder: EncoderText = None
    """Branch of a new group: terrain, or terrain:16x8,8x4,64 for convolutions of 16 filters of width 8 and 8 of width
    4 (8x4/2 for a stride of 2) and a dense layer of 64, joined at the last hidden layer; terrain:8x3,32@every at every
    one."""
    hidden: tuple[int, ...] | None = None
    """Wider hidden layers of the actor."""
    critic_hidden: tuple[int, ...] | None = None
    """Wider hidden layers of the critic."""
    skill: str | None = None
    """Skill in which outputs are compared; default the policy's first."""
    seed: int = 0
    """Seed of the new weights and of the observations."""
    threads: int | None = None
    """Threads of the simulation; default one per usable core."""


def run_inject(command: Inject, console: Console) -> None:
    """Inject, and print the largest difference of outputs.

    Raises:
        PolicykdError: for bad input.
    """
    from policykd.agents.injection import inject_file

    report = inject_file(
        command.policy,
        command.out,
        command.groups,
        mode=command.mode,
        encoder=parse_encoder(command.encoder) if command.encoder else None,
        scale=command.scale,
        seed=command.seed,
        hidden=command.hidden,
        critic_hidden=command.critic_hidden,
        skill=command.skill,
        threads=command.threads,
    )
    what = f"{report.mode} injection of {', '.join(report.groups)}" if report.groups else "growth"
    console.print(
        f"{what}: largest difference of actions and values {report.largest_random:.2e} over random observations, "
        f"{report.largest_on_policy:.2e} on-policy -> {report.policy_path}",
        highlight=False,
        soft_wrap=True,
    )
