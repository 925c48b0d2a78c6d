"""Output of the commands: progress bars, and the final line with the path of the results.

It prints and knows nothing about the work.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
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

    If the output is not a terminal, each activity prints a line every minute and one at its end instead.

    Args:
        console: console to draw on.
        every: time between two lines of an activity where there is no terminal, s.
    """

    _SHOWN = ("train_return", "train_success", "loss", "retention", "success")
    _DETAILS = ("retention ", "states to ", "about states to ", "seconds left")

    def __init__(self, console: Console, every: float = 60.0) -> None:
        self._console, self._every = console, every
        self._spoken: dict[str, tuple[float, float]] = {}  # when an activity began, and when it last printed
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
        if name in self._tasks:  # a job that was started again
            self._bars.remove_task(self._tasks[name])
        self._bars.start()
        self._tasks[name] = self._bars.add_task(name, total=total, unit=unit, figures="")
        self._spoken[name] = (time.monotonic(), time.monotonic())

    @override
    def update(self, name: str, done: int, **figures: float) -> None:
        shown = "  ".join(_shown(name, figures[name]) for name in self._order(figures))
        self._bars.update(self._tasks[name], completed=done, figures=shown)
        if not self._console.is_terminal:
            self._speak(name, done, shown)

    def _order(self, figures: Mapping[str, float]) -> list[str]:
        """Return the names of the figures to show: the usual ones, then the details of those."""
        return [n for n in self._SHOWN if n in figures] + [n for n in figures if n.startswith(self._DETAILS)]

    def _speak(self, name: str, done: int, figures: str) -> None:
        """Print a line about an activity unless it printed one within the last minute."""
        now, (began, last) = time.monotonic(), self._spoken[name]
        if now - last < self._every:
            return
        self._spoken[name] = (began, now)
        task = next(task for task in self._bars.tasks if task.id == self._tasks[name])
        total = int(task.total or 0)
        left = (now - began) * max(0, total - done) / done if done else None
        words = f"{done:,} of {total:,} {task.fields['unit']} after {_duration(now - began)}"
        words += f", about {_duration(left)} left" if left is not None else ""
        self._console.print(Text.assemble((name, "bold"), f": {words}  {figures}".rstrip()), highlight=False)

    @override
    def end(self, name: str, message: str = "") -> None:
        self._bars.remove_task(self._tasks.pop(name))
        if not self._tasks:
            self._bars.stop()
        if message:
            self._console.print(Text.assemble((name, "bold"), f": {message}"), highlight=False)


def _shown(name: str, value: float) -> str:
    """Return a figure with its name: large numbers in full, skills without the robot."""
    name = name.removeprefix("train_").removeprefix("retention ").rpartition("/")[2]
    return f"{name} {value:,.0f}" if value >= 1000 else f"{name} {value:.3g}"


def _duration(seconds: float) -> str:
    """Return a duration as ``40 s``, ``3 min`` or ``2 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def say(console: Console, text: str) -> None:
    """Print one line unchanged: long paths are not wrapped, numbers are not colored."""
    console.print(text, highlight=False, soft_wrap=True)


def say_where(console: Console, path: Path, before: str = "") -> None:
    """Print the path of a result, after an optional summary."""
    say(console, f"{before + ' ' if before else ''}-> {path}")
