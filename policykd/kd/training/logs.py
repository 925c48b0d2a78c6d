"""Logs of a run: JSON lines are the source of truth; TensorBoard and the progress bar are views of the same records.

A record is a flat mapping with ``kind`` (``start``, ``step``, ``epoch``, ``end``), ``step`` (optimizer steps done) and
numbers. Any object with ``open``, ``write`` and ``close`` can listen.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

Record = Mapping[str, Any]


class Log(Protocol):
    """What a run calls."""

    def open(self, step: int) -> None:
        """The run begins, or goes on after ``step`` steps."""

    def write(self, record: Record) -> None:
        """Take a record."""

    def close(self) -> None:
        """The run is over, finished or not."""


class JSONLines:
    """Appends records to a ``.jsonl`` file.

    When a run resumes, records of steps that will be run again are dropped first, so that a resumed run leaves the same
    lines as an uninterrupted one (but for times).

    Args:
        path: The file, or a folder to put ``log.jsonl`` into.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.path = path if path.suffix == ".jsonl" else path / "log.jsonl"
        self._file: Any = None

    def open(self, step: int) -> None:
        """Keep the records up to ``step`` (none for a fresh run) and open the file for appending."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        if step > 0 and self.path.exists():
            kept = [r for r in read_records(self.path) if r.get("kind") != "end" and int(r.get("step", 0)) <= step]
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        temporary.write_text("".join(json.dumps(record) + "\n" for record in kept))
        os.replace(temporary, self.path)
        self._file = self.path.open("a", buffering=1)

    def write(self, record: Record) -> None:
        """Append one line."""
        self._file.write(json.dumps(dict(record)) + "\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """The records of a ``.jsonl`` file; a line that a crash cut short ends the list."""
    records = []
    for line in Path(path).read_bytes().splitlines():
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError):
            break
    return records


class TensorBoard:
    """Writes the numbers of step and epoch records as TensorBoard scalars.

    Args:
        folder: Where the event files go.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._writer: Any = None

    def open(self, step: int) -> None:
        """Start an event file; on resuming, later events of an earlier one are hidden."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import, so only when it is used

        self._writer = SummaryWriter(str(self.folder), purge_step=step + 1 if step else None)

    def write(self, record: Record) -> None:
        """Write every number of the record."""
        if record.get("kind") not in ("step", "epoch"):
            return
        for name, value in record.items():
            if isinstance(value, int | float) and name not in ("step", "epoch"):
                self._writer.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class ProgressBar:
    """A rich progress bar over epochs with loss and accuracy, for people who watch."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._task: Any = None

    def open(self, step: int) -> None:
        """Show the bar."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns)
        self._progress.start()
        self._task = self._progress.add_task("epoch", total=None)

    def write(self, record: Record) -> None:
        """Move the bar."""
        if record["kind"] == "start":
            self._progress.update(self._task, total=record["epochs"], completed=record["epoch"])
        elif record["kind"] == "epoch":
            shown = [f"loss {record['loss']:.4f}"]
            shown += [f"{name} {value:.4f}" for name, value in record.items() if name.startswith("val_")]
            self._progress.update(self._task, completed=record["epoch"], description=", ".join(shown))

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class Logs:
    """Several logs as one, closed whatever happens."""

    def __init__(self, logs: tuple[Log, ...], step: int) -> None:
        self._logs, self._step = logs, step

    def __enter__(self) -> Logs:
        for log in self._logs:
            log.open(self._step)
        return self

    def write(self, record: Record) -> None:
        """Pass a record on."""
        for log in self._logs:
            log.write(record)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for log in self._logs:
            log.close()
