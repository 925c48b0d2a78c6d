"""Progress bars on the terminal."""

from __future__ import annotations

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


class Bars:
    """Draws one bar per piece of work, with its latest figures; see :class:`policykd.progress.Progress`.

    Where the output is no terminal, each finished piece of work is one line.

    Args:
        console: where to draw.
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

    def begin(self, name: str, total: int, unit: str) -> None:
        """See :class:`policykd.progress.Progress`."""
        self._bars.start()
        self._tasks[name] = self._bars.add_task(name, total=total, unit=unit, figures="")

    def update(self, name: str, done: int, **figures: float) -> None:
        """See :class:`policykd.progress.Progress`."""
        shown = "  ".join(f"{k.removeprefix('train_')} {figures[k]:.3g}" for k in self._SHOWN if k in figures)
        self._bars.update(self._tasks[name], completed=done, figures=shown)

    def end(self, name: str, message: str = "") -> None:
        """See :class:`policykd.progress.Progress`."""
        self._bars.remove_task(self._tasks.pop(name))
        if not self._tasks:
            self._bars.stop()
        if message:
            self._console.print(Text.assemble((name, "bold"), f": {message}"), highlight=False)
