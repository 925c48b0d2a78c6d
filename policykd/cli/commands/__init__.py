"""The commands of ``policykd``, one module each: a frozen dataclass of options with a ``run(console)`` method.

To add a command, write a module with such a class and list it in :data:`COMMANDS` (or :data:`KD_COMMANDS`). Modules
import heavy packages inside ``run``, so that help and error messages about options appear at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Union

import tyro

from policykd.cli.commands.add_skill import AddSkill
from policykd.cli.commands.audit import AuditCommand
from policykd.cli.commands.bisect import Bisect
from policykd.cli.commands.card import Card
from policykd.cli.commands.compare import Compare
from policykd.cli.commands.data import DataExport, DataImport
from policykd.cli.commands.demo import Demo
from policykd.cli.commands.describe import Describe
from policykd.cli.commands.diff import Diff
from policykd.cli.commands.doctor import Doctor
from policykd.cli.commands.evaluate import Evaluate
from policykd.cli.commands.export import Export
from policykd.cli.commands.finetune import Finetune
from policykd.cli.commands.forget_skill import ForgetSkill
from policykd.cli.commands.import_ import Import
from policykd.cli.commands.inject import Inject
from policykd.cli.commands.kd_bench import KdBench
from policykd.cli.commands.kd_data import KdData
from policykd.cli.commands.kd_list import KdList
from policykd.cli.commands.kd_run import KdRun
from policykd.cli.commands.kd_show import KdShow
from policykd.cli.commands.lineage import Lineage
from policykd.cli.commands.merge import Merge
from policykd.cli.commands.merge_weights import MergeWeights
from policykd.cli.commands.plaid import Plaid
from policykd.cli.commands.remap import Remap
from policykd.cli.commands.render import Render
from policykd.cli.commands.robots import RobotsCheck, RobotsList, RobotsNew
from policykd.cli.commands.rollback import Rollback
from policykd.cli.commands.routing import RoutingCommand
from policykd.cli.commands.shrink import Shrink
from policykd.cli.commands.skills import Skills
from policykd.cli.commands.specialize import Specialize
from policykd.cli.commands.track import Track
from policykd.cli.commands.train import Train
from policykd.cli.commands.view import View

if TYPE_CHECKING:
    from rich.console import Console


class Command(Protocol):
    """A command with its options."""

    def run(self, console: Console) -> None:
        """Run the command and print its outcome.

        Raises:
            PolicykdError: for bad input.
        """
        ...


def _union(commands: dict[str, type]) -> Any:
    """Return a union type that gives one tyro subcommand per entry."""
    return Union[tuple(Annotated[kind, tyro.conf.subcommand(name)] for name, kind in commands.items())]  # noqa: UP007


KD_COMMANDS: dict[str, type] = {
    "list": KdList,
    "show": KdShow,
    "data": KdData,
    "run": KdRun,
    "bench": KdBench,
}
"""Commands of the group ``policykd kd``, in the order of its help."""


@dataclass(frozen=True)
class Kd:
    """Supervised knowledge distillation: losses, data, systems and a benchmark."""

    command: Annotated[_union(KD_COMMANDS), tyro.conf.arg(name="")]  # type: ignore[valid-type]

    def run(self, console: Console) -> None:
        """Run the chosen command of the group."""
        self.command.run(console)


ROBOT_COMMANDS: dict[str, type] = {"list": RobotsList, "check": RobotsCheck, "new": RobotsNew}
"""Commands of the group ``policykd robots``, in the order of its help."""


@dataclass(frozen=True)
class Robots:
    """Robots: list them, check a table of your own, write a first one for a model."""

    command: Annotated[_union(ROBOT_COMMANDS), tyro.conf.arg(name="")]  # type: ignore[valid-type]

    def run(self, console: Console) -> None:
        """Run the chosen command of the group."""
        self.command.run(console)


DATA_COMMANDS: dict[str, type] = {"export": DataExport, "import": DataImport}
"""Commands of the group ``policykd data``, in the order of its help."""


@dataclass(frozen=True)
class Data:
    """Labeled states: to and from Minari datasets."""

    command: Annotated[_union(DATA_COMMANDS), tyro.conf.arg(name="")]  # type: ignore[valid-type]

    def run(self, console: Console) -> None:
        """Run the chosen command of the group."""
        self.command.run(console)


COMMANDS: dict[str, type] = {
    "demo": Demo,
    "train": Train,
    "merge": Merge,
    "finetune": Finetune,
    "merge-weights": MergeWeights,
    "shrink": Shrink,
    "import": Import,
    "inject": Inject,
    "remap": Remap,
    "export": Export,
    "track": Track,
    "card": Card,
    "describe": Describe,
    "diff": Diff,
    "audit": AuditCommand,
    "routing": RoutingCommand,
    "evaluate": Evaluate,
    "render": Render,
    "view": View,
    "skills": Skills,
    "robots": Robots,
    "data": Data,
    "doctor": Doctor,
    "plaid": Plaid,
    "compare": Compare,
    "add-skill": AddSkill,
    "specialize": Specialize,
    "lineage": Lineage,
    "rollback": Rollback,
    "forget-skill": ForgetSkill,
    "bisect": Bisect,
    "kd": Kd,
}
"""Commands in the order of ``policykd --help``."""

ANY_COMMAND = _union(COMMANDS)
"""Type of a parsed command line."""
