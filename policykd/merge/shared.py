"""Files of a merge that several processes work on: the first one reads and writes, the others are told.

Both classes offer what a merge uses of a run folder and of a labeled dataset; a single process uses those themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policykd.errors import ConfigError
from policykd.merge.config import MergeConfig
from policykd.merge.data.folder import LabeledData
from policykd.merge.data.manifest import DataManifest
from policykd.merge.data.rollout import LabeledRollout
from policykd.parallel import Processes
from policykd.runs import RunFolder
from policykd.storage import read_json


class SharedFolder:
    """A run folder that the first process holds; see :class:`policykd.runs.RunFolder`.

    Args:
        group: the processes.
        path: the folder.
        config: configuration of the run.
        resume: whether to continue the run in the folder.
    """

    def __init__(self, group: Processes, path: Path, config: Mapping[str, Any], resume: bool) -> None:
        self.path, self._group = path, group
        self._own: RunFolder | None = None

        def hold() -> None:
            self._own = RunFolder(path, config, resume)

        group.from_first(hold)

    @property
    def result(self) -> dict[str, Any] | None:
        """Result of a finished run."""
        return self._group.from_first(lambda: self._folder.result)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Return the last checkpoint."""
        return self._group.from_first(lambda: self._folder.load_checkpoint())

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint."""
        self._group.from_first(lambda: self._folder.save_checkpoint(state))

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one measurement to the log."""
        self._group.from_first(lambda: self._folder.append(row))

    def finish(self, result: Mapping[str, Any]) -> None:
        """Store the result."""
        self._group.from_first(lambda: self._folder.finish(result))

    @property
    def _folder(self) -> RunFolder:
        assert self._own is not None  # asked for in the first process only
        return self._own


class SharedData:
    """A labeled dataset that the first process holds; see :class:`policykd.merge.data.folder.LabeledData`.

    Args:
        group: the processes.
        folder: the folder.
        manifest: content of the dataset so far.
    """

    def __init__(self, group: Processes, folder: Path, manifest: DataManifest) -> None:
        self._group = group
        self._own: LabeledData | None = None

        def hold() -> None:
            self._own = LabeledData(folder, manifest)

        group.from_first(hold)

    def store(self, round_: int, skill: str, rollout: LabeledRollout, beta: float) -> None:
        """Write a round of a skill."""
        self._group.from_first(lambda: self._data.store(round_, skill, rollout, beta))

    def commit(self) -> None:
        """List what was stored in the manifest."""
        self._group.from_first(lambda: self._data.commit())

    def reopen(self, rounds: int) -> SharedData:
        """Return the dataset with its first rounds only."""

        def hold() -> None:
            self._own = self._data.reopen(rounds)

        self._group.from_first(hold)
        return self

    def find(self, round_: int, skill: str) -> LabeledRollout:
        """Return a round of a skill."""
        return self._group.from_first(lambda: self._data.find(round_, skill))

    @property
    def _data(self) -> LabeledData:
        assert self._own is not None  # asked for in the first process only
        return self._own


def open_data(group: Processes, folder: Path, manifest: DataManifest) -> LabeledData | SharedData:
    """Return the labeled dataset of a merge, shared by all processes if there are several."""
    return LabeledData(folder, manifest) if group.alone else SharedData(group, folder, manifest)


def open_folder(group: Processes, path: Path, config: Mapping[str, Any], resume: bool) -> RunFolder | SharedFolder:
    """Return the run folder of a merge, shared by all processes if there are several.

    Raises:
        ConfigError: for a merge in the folder that another number of processes began: sums over processes run in an
            order of their own, so that it would not end in the same weights.
    """

    def check() -> None:
        file = path / "config.json"
        before = (read_json(file) or {}).get("processes", 1) if file.exists() and resume else group.size
        if before != group.size:
            again = f"torchrun --nproc-per-node {before}" if before != 1 else "one process, without torchrun"
            raise ConfigError(
                f"the merge in {path} was begun by {before} process(es), now there are {group.size}, which would not "
                f"give the same weights; resume it with {again}, or choose another --out"
            )

    group.from_first(check)
    if group.alone:
        return RunFolder(path, config, resume)
    return SharedFolder(group, path, {**config, "processes": group.size}, resume)


def check_parallel(group: Processes, config: MergeConfig) -> None:
    """Raise unless several processes can work on a merge.

    Args:
        group: the processes.
        config: the merge.

    Raises:
        ConfigError: naming the setting that needs one process, or leaves a process without work.
    """
    if group.alone:
        return
    for name, wanted in (("stop", "validations"), ("device", "cpu")):
        given = getattr(config, name)
        if given != wanted:
            raise ConfigError(
                f"merge.{name} is {given}; the {group.size} processes of torchrun can share a merge with "
                f"merge.{name}={wanted} only: set that, or start the merge without torchrun"
            )
    if config.minibatch < group.size:
        raise ConfigError(
            f"merge.minibatch is {config.minibatch}, which cannot be shared by {group.size} processes; raise it, or "
            f"start fewer"
        )
