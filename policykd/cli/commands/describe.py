"""``policykd describe``: what a policy reads and how its actions act.

Options and printing only; the work is in ``policykd.agents.files.description``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.table import Table

from policykd.cli.output import say, say_where

if TYPE_CHECKING:
    from policykd.agents.files.description import Description


@dataclass(frozen=True)
class Describe:
    """Print every input of a policy with its columns and units, and every action with its joint and limits."""

    policy: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    out: Path | None = None
    """JSON file with inputs (also the usual values of every feature) and actions; default none."""

    def run(self, console: Console) -> None:
        """Describe the policy and print two tables.

        Raises:
            PolicykdError: for a file that is not a policy.
        """
        from policykd.agents.files.description import describe_policy
        from policykd.agents.files.policy_file import load_policy
        from policykd.storage import prepare_file, write_json

        if self.out is not None:
            prepare_file(self.out)
        found = describe_policy(load_policy(self.policy))
        memory = f"memory: {found.memory}; " if found.memory else ""
        say(console, f"{found.robot}; {1 / found.control_dt:g} actions/s; {memory}{found.parameters:,} parameters")
        say(console, f"made for {', '.join(found.skills)}")
        console.print(_inputs(found))
        console.print(_actions(found))
        say(console, "in Python: policy, manifest = load_policy(path); manifest.targets(policy.act(observations))")
        if self.out is not None:
            write_json(self.out, {"policy": str(self.policy), **asdict(found)})
            say_where(console, self.out)


def _inputs(found: Description) -> Table:
    table = Table("columns", "observation group", "features in order", title="inputs")
    for one in found.inputs:
        table.add_row(f"{one.first}-{one.last}", one.group, one.units or "as the environment returns them")
    return table


def _actions(found: Description) -> Table:
    table = Table("column", "joint", "target at -1, 0, 1", "limits", "stiffness", "damping", "largest torque")
    table.title = "actions, each in [-1, 1]: rad, Nm/rad, Nm s/rad, Nm (of a gymnasium environment: its own units)"
    for place, one in enumerate(found.actions):
        low, high = one.limits
        ends = ", ".join(f"{min(max(one.stand + sign * one.scale, low), high):g}" for sign in (-1, 0, 1))
        gains = (f"{value:g}" for value in (one.stiffness, one.damping, one.torque))
        table.add_row(str(place), one.joint, ends, f"{low:g} to {high:g}", *gains)
    return table
