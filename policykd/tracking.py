"""Runs in Weights & Biases and trackio: the rows of a run folder's log, sent as they are written.

A tracker reads ``config.json`` and ``progress.jsonl`` of a run and changes neither, so that a run is the same with and
without one, and one that ended long ago can be sent, too. Both packages are extras.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from policykd.errors import MissingDependencyError, OutputError, UnknownNameError
from policykd.storage import read_json

STEPS = ("steps", "states", "round")
"""Entries of a row that count, the first of which is the axis: environment steps, labeled states, or rounds."""


class Tracker(Protocol):
    """Where the rows go."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Send the figures of a row."""
        ...

    def finish(self) -> None:
        """Wait until all are sent, and close the run."""
        ...


class Wandb:
    """A run of Weights & Biases.

    Args:
        project: name of the project.
        name: name of the run.
        config: its configuration.
        folder: place of its local files.
        offline: write local files only, which ``wandb sync`` sends later.
    """

    def __init__(self, project: str, name: str, config: Mapping[str, Any], folder: Path, offline: bool) -> None:
        package = _package("wandb")
        mode = "offline" if offline else "online"
        self._run = package.init(project=project, name=name, config=dict(config), dir=str(folder), mode=mode)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Send the figures of a row."""
        self._run.log(dict(figures), step=step)

    def finish(self) -> None:
        """Wait until all are sent, and close the run."""
        self._run.finish()


class Trackio:
    """A run of trackio, which keeps its database on this machine; ``offline`` and ``folder`` change nothing.

    Args:
        project: name of the project.
        name: name of the run.
        config: its configuration.
        folder: unused.
        offline: unused.
    """

    def __init__(self, project: str, name: str, config: Mapping[str, Any], folder: Path, offline: bool) -> None:
        self._package = _package("trackio")
        self._package.init(project=project, name=name, config=dict(config), embed=False)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Send the figures of a row."""
        self._package.log(dict(figures), step=step)

    def finish(self) -> None:
        """Wait until all are sent, and close the run."""
        self._package.finish()


TRACKERS: dict[str, Callable[[str, str, Mapping[str, Any], Path, bool], Tracker]] = {
    "wandb": Wandb,
    "trackio": Trackio,
}
"""Trackers by name, which is also that of their package and of the extra."""


def track_run(
    run: Path,
    to: str,
    *,
    project: str = "policykd",
    name: str | None = None,
    offline: bool = False,
    follow: bool = False,
    pause: float = 1.0,
) -> int:
    """Send the log of a run to a tracker.

    Args:
        run: folder of a training, a merge or a fine-tuning.
        to: name of the tracker.
        project: project in it.
        name: name of the run in it; None for the folder's.
        offline: without a network, where the tracker can.
        follow: go on until the run has ended.
        pause: time between two looks at the log of a run that is followed, s.

    Returns:
        The number of rows.

    Raises:
        UnknownNameError: for an unknown tracker.
        MissingDependencyError: without its package.
        OutputError: for a folder without a run.
    """
    if to not in TRACKERS:
        raise UnknownNameError("tracker", to, TRACKERS)
    if not (run / "config.json").exists():
        raise OutputError(f"{run} is not the folder of a run: it has no config.json")
    tracker = TRACKERS[to](project, name or run.resolve().name, read_json(run / "config.json"), run, offline)
    count = 0
    try:
        for row in _rows(run, follow, pause):
            figures = flatten(row)
            tracker.log(figures, int(next((figures[key] for key in STEPS if key in figures), count)))
            count += 1
    finally:
        tracker.finish()
    return count


def _rows(run: Path, follow: bool, pause: float) -> Iterator[dict[str, Any]]:
    """Yield the whole lines of the log, those to come included if the run is followed."""
    log, read = run / "progress.jsonl", 0
    while True:
        ended = not follow or (run / "result.json").exists()  # looked at first: what it wrote before is read below
        whole = log.read_bytes().rpartition(b"\n")[0] if log.exists() else b""
        lines = whole.splitlines()
        for line in lines[read:]:
            yield json.loads(line)
        read = max(read, len(lines))
        if ended:
            return
        time.sleep(pause)


def flatten(row: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of a row, with the names of what holds them in front: ``retention/biped/flat``."""
    found: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)):
            found[f"{prefix}{key}"] = float(value)
    return found


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingDependencyError(
            f"{name} is not installed; install it with pip install 'policykd[{name}]'"
        ) from None
