"""``policykd import``: turn a policy of another library into a policy file.

Options and printing only; the work is in ``policykd.agents.importing``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console

from policykd.cli.output import say, say_where

if TYPE_CHECKING:
    from policykd.agents.importing.importer import ImportReport


@dataclass(frozen=True)
class Import:
    """Turn a policy of another library into a policy file, after a trial in its environment. Nothing in it is run."""

    policy: tyro.conf.Positional[Path]
    """Zip of stable-baselines3, checkpoint of rsl_rl, rl_games, skrl or CleanRL, TorchScript archive, or ONNX file."""
    out: Path
    """The policy file to write."""
    env: str | None = None
    """Environment, for example BipedalWalker-v3; default the one that the file names."""
    activation: str | None = None
    """Activation of the hidden layers, elu, relu, silu (swish) or tanh, for files that name none."""
    normalizer: Path | None = None
    """File of the normalizer's statistics; default vecnormalize.pkl next to the policy."""
    no_normalizer: bool = False
    """Import without a normalizer although the training had one."""
    low: tuple[float, ...] = ()
    """Lower bounds of the actions, for files without bounds; one for all, or one each."""
    high: tuple[float, ...] = ()
    """Upper bounds of the actions, in the same way."""
    wrapper: str = ""
    """Observations that a wrapper added in training: time-feature:STEPS, frame-stack:N (zeros before the episode) or
    frame-stack-first:N (its first observation there); default what config.yml next to the policy says."""
    dead_inputs: Literal["mean", "drop"] | None = None
    """Features that hardly moved in training: count them as their means, or do not read them. Other values drown a
    policy whose normalizer divides by almost nothing."""
    episodes: int = 10
    """Trial episodes, in which the policy must do better than random actions."""
    seed: int = 0
    """Seed of the trial."""
    anyway: bool = False
    """Import the policy even if it is not better than random actions."""

    def run(self, console: Console) -> None:
        """Import, and print the trial and the remarks.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.agents.importing.importer import import_policy
        from policykd.agents.importing.options import ImportOptions

        options = ImportOptions(
            activation=self.activation,
            normalizer=self.normalizer,
            normalized=False if self.no_normalizer else None,
            low=self.low,
            high=self.high,
            wrapper=self.wrapper,
            dead_inputs=self.dead_inputs or "",
        )
        report = import_policy(
            self.policy, self.out, env=self.env, options=options, episodes=self.episodes, seed=self.seed,
            anyway=self.anyway,
        )  # fmt: skip
        say_report(console, report)


def say_report(console: Console, report: ImportReport) -> None:
    """Print the remarks and the trial of an import."""
    for note in report.notes:
        say(console, f"note: {note}")
    say_where(
        console,
        report.policy_path,
        f"{report.source}: return {report.score:.4g} on {report.skill} in {report.episodes} episodes, random "
        f"actions {report.random:.4g}",
    )
