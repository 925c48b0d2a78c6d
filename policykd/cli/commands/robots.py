"""``policykd robots``: list robots, check a robot's table, and write a first table for a model.

It parses options and prints; the work is done by the packages it calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from policykd.cli.output import say, say_where


@dataclass(frozen=True)
class RobotsList:
    """List the robots."""

    def run(self, console: Console) -> None:
        """Print one row per robot."""
        from policykd.envs.robots import ROBOTS

        table = Table("robot", "moves", "joints", "leg (m)", "policy rate (Hz)", "physics step (ms)")
        for robot in ROBOTS.values():
            table.add_row(
                robot.name,
                "in space" if robot.spatial else "in a plane",
                str(robot.num_actions),
                f"{robot.ground_scale * 0.79:.2f}",
                f"{1 / robot.control_dt:.0f}",
                f"{1000 * robot.timestep:.1f}",
            )
        console.print(table)
        console.print("use a robot of your own as in `policykd train my_robot.yaml/flat`; see `policykd robots new`")


@dataclass(frozen=True)
class RobotsCheck:
    """Load a robot, stand it up, drop it, measure its speed, and say what does not fit."""

    table: tyro.conf.Positional[Path]
    """YAML table of the robot."""
    picture: Path | None = None
    """Draw the standing robot into this PNG file."""

    def run(self, console: Console) -> None:
        """Print the findings.

        Raises:
            PolicykdError: naming the part of the table that does not fit, and the cure.
        """
        from policykd.envs.robots.check import check_robot
        from policykd.envs.robots.description import read_robot

        robot = read_robot(self.table)
        found = check_robot(robot)
        joints = Table(
            "joint", "stands at (rad)", "limits (rad)", "kp (Nm/rad)", "kd (Nm s/rad)", "torque (Nm)", "mirror"
        )
        for servo, mirror in zip(found.servos, found.mirrors, strict=True):
            limits = f"{servo.limits[0]:.2f} to {servo.limits[1]:.2f}"
            numbers = (servo.stiffness, servo.damping, servo.torque)
            joints.add_row(servo.joint, f"{servo.stand:.2f}", limits, *(f"{n:g}" for n in numbers), mirror)
        console.print(joints)
        for line in found.lines:
            console.print(line)
        if self.picture:
            from policykd.envs.robots import register_robot
            from policykd.envs.skills import get_skill
            from policykd.report.plots.terrains import draw_gallery

            register_robot(robot)
            terrains = robot.terrains or ("flat", "steps")
            draw_gallery([get_skill(f"{robot.name}/{terrain}") for terrain in terrains], self.picture)
            say_where(console, self.picture)


@dataclass(frozen=True)
class RobotsNew:
    """Write a first table for an MJCF or URDF model."""

    model: tyro.conf.Positional[Path]
    """MJCF or URDF file."""
    out: Path | None = None
    """YAML file to write; default in the folder of the model, with its name."""

    def run(self, console: Console) -> None:
        """Write the table and say what to look at.

        Raises:
            PolicykdError: for a model that cannot be used, or a file that exists.
        """
        from policykd.envs.robots.first_table import write_first_table

        out = self.out or self.model.with_suffix(".yaml")
        guesses = write_first_table(self.model, out)
        for guess in guesses:
            console.print(guess)
        say(console, f"wrote {out}; look it through, then run: policykd robots check {out}")
