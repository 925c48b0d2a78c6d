"""Output of the commands: progress bars, and the final line with the path of the results.

It prints and knows nothing about the work.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from typing_extensions import override

from policykd.progress import Progress as ProgressProtocol


class Bars(ProgressProtocol):
    """Draws one progress bar per activity, with its latest metrics.

    If the output is not a terminal, each finished activity prints one line instead.

    Args:
        console: console to draw on.
    """

    _SHOWN = ("train_return", "train_success", "loss", "retention", "success")

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    @override
    def begin(self, name: str, total: int, unit: str) -> None:
        self._bars.start()
        self._tasks[name] = self._bars.add_task(name, total=total, unit=unit, figures="")

    @override
    def update(self, name: str, done: int, **figures: float) -> None:
        shown = "  ".join(f"{k.removeprefix('train_')} {figures[k]:.3g}" for k in self._SHOWN if k in figures)
        self._bars.update(self._tasks[name], completed=done, figures=shown)

    @override
    def end(self, name: str, message: str = "") -> None:
        self._bars.remove_task(self._tasks.pop(name))
        if not self._tasks:
            self._bars.stop()
        if message:
            self._console.print(Text.assemble((name, "bold"), f": {message}"), highlight=False)


def say(console: Console, text: str) -> None:
    """Print one line unchanged: long paths are not wrapped, numbers are not colored."""
    console.print(text, highlight=False, soft_wrap=True)


def say_where(console: Console, path: Path, before: str = "") -> None:
    """Print the path of a result, after an optional summary."""
    say(console, f"{before + ' ' if before else ''}-> {path}")
