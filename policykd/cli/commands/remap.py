"""``policykd remap``: a policy for a robot whose joints stand in another order.

Options and printing only; the work is in ``policykd.agents.remapping``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from policykd.cli.output import say


@dataclass(frozen=True)
class Remap:
    """Reorder a policy's inputs and outputs by name, for the same robot with its joints in another order."""

    policy: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    robot: str
    """The robot in the other order: my_robot.yaml, a registered name, or package.module:NAME."""
    out: Path
    """The new policy file, a folder or a .zip; it must not exist yet."""

    def run(self, console: Console) -> None:
        """Remap, and print the largest difference in actions.

        Raises:
            PolicykdError: for bad input.
        """
        from policykd.agents.remapping import remap_file
        from policykd.envs.skill_records import read_robot_name

        report = remap_file(self.policy, read_robot_name(self.robot), self.out)
        moved = [name for name in report.orders.groups if report.orders.changes(name)]
        say(
            console,
            f"reordered actions and {', '.join(moved) or 'no observation group'}: largest difference in actions "
            f"{report.largest_difference:.2e} over random observations; skills {', '.join(report.skills)} -> "
            f"{report.policy_path}",
        )
