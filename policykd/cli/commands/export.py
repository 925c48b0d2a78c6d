"""``policykd export``: write a policy for a runtime without policykd: ONNX, TorchScript, a C header.

Options and printing only; the work is in ``policykd.agents.export``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console

from policykd.cli.options import Threads
from policykd.cli.output import say, say_where

if TYPE_CHECKING:
    from policykd.agents.export.check import Comparison


@dataclass(frozen=True)
class Export:
    """Write a policy as ONNX, TorchScript and a C header, each compared with the policy; default all three."""

    policy: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    out: Path
    """Folder of the exported files policy.onnx, policy.pt, policy.h and the report export.json."""
    onnx: bool = False
    """Write policy.onnx with a dynamic batch and the keys of mjlab's metadata; needs policykd[export]."""
    torchscript: bool = False
    """Write policy.pt, a TorchScript archive."""
    c_header: bool = False
    """Write policy.h: one C function without dependencies."""
    per_group: bool = False
    """One input per observation group instead of one flat input obs."""
    check: bool = True
    """Compare the files with the policy on visited states and in closed loop."""
    skill: str | None = None
    """Skill of the comparison; default the policy's first."""
    states: int = 10_000
    """States on which actions are compared."""
    episodes: int = 64
    """Episodes in closed loop."""
    seed: int = 0
    """Seed of states and episodes."""
    threads: Threads = None

    def run(self, console: Console) -> None:
        """Export, and print one line per file.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.agents.export import export_policy

        flags = {"onnx": self.onnx, "torchscript": self.torchscript, "c": self.c_header}
        formats = [name for name, wanted in flags.items() if wanted] or None
        report = export_policy(
            self.policy, self.out, formats, per_group=self.per_group, check=self.check, skill=self.skill,
            states=self.states, episodes=self.episodes, seed=self.seed, threads=self.threads,
        )  # fmt: skip
        for file in report.files.values():
            how = file.unchecked and f"not compared with the policy: {file.unchecked}"
            if file.comparison is not None:
                how = _text(file.comparison)
            say(console, f"{file.path.name}: {file.bytes:,} bytes" + (f"; {how}" if how else ""))
        say_where(console, report.report_path)


def _text(found: Comparison) -> str:
    targets = f", {found.largest_target:.1e} rad in joint targets" if found.by_success else ""
    name, (policy, file) = "reward per step", (f"{value:.3g}" for value in found.reward_per_step)
    if found.by_success:
        name, (policy, file) = "success", (f"{value:.2f}" for value in found.success)
    return (
        f"largest difference over {found.states:,} states: {found.largest_action:.1e} in actions{targets}; "
        f"{name} {file}, of the policy {policy} ({found.same_outcomes} of {found.episodes} episodes end alike)"
    )
