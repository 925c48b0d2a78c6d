"""Run folders: the resolved configuration, a JSON-lines log, a checkpoint and the result of a finished run.

Training and merging share this layout, so that both resume in the same way::

    config.json       resolved configuration; a resumed run must have the same one
    progress.jsonl    one JSON object per measurement; truncated to the checkpoint when a run is resumed
    checkpoint.pt     tensors and numbers, loadable without executing code
    result.json       written last; a run with this file is finished and is not run again
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from policykd.errors import ConfigError, OutputError
from policykd.parsing import parse_json
from policykd.plain import as_plain
from policykd.storage import prepare_folder, read_json, remove_unfinished, write_bytes, write_json, write_text

_FORMAT = 2
"""Format of checkpoints; those of format 1, which holds no number, spell the normalizer differently."""

PATIENCE = 10.0
"""Seconds to wait for the lock of a folder; the jobs of a killed run exit at their next report."""


def check_free(path: Path) -> None:
    """Raise unless a new run can begin in a folder.

    Raises:
        OutputError: if it holds a run.
    """
    if (path / "config.json").exists():
        raise OutputError(f"{path} already holds a run; continue it with --resume or choose another --out")


class RunFolder:
    """Folder of one run.

    The folder is locked for this process until the run is finished or the object is deleted: two processes that
    continue the same run would mix their logs and checkpoints.

    Args:
        path: the folder.
        config: configuration of the run; written to ``config.json``.
        resume: continue the run in the folder, if there is one; otherwise the folder must not hold a run.

    Raises:
        OutputError: if the folder cannot be written, holds a run and ``resume`` is off, or another process works in it.
        ConfigError: if it holds a run of another configuration, naming the fields that differ.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], resume: bool) -> None:
        self.path = prepare_folder(path)
        self._config_file, self._log_file = path / "config.json", path / "progress.jsonl"
        self._checkpoint_file, self._result_file = path / "checkpoint.pt", path / "result.json"
        if not resume:
            check_free(path)
        self._lock = _occupied(path)
        if self._lock.lock_counter == 1:  # this process did not hold it before
            remove_unfinished(path)
        if self._config_file.exists():
            _check_same(path, config)
        else:
            write_json(self._config_file, as_plain(config))

    @property
    def result(self) -> dict[str, Any] | None:
        """Result of a finished run; None for an unfinished one."""
        return read_json(self._result_file) if self._result_file.exists() else None

    def finish(self, result: Mapping[str, Any]) -> None:
        """Store the result, which marks the run as finished, and release the folder."""
        write_json(self._result_file, as_plain(result))
        self._checkpoint_file.unlink(missing_ok=True)
        self._lock.release()

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Return the last checkpoint, or None, and truncate the log to it.

        Raises:
            OutputError: if the checkpoint cannot be read, or an earlier version of policykd wrote it.
        """
        if not self._checkpoint_file.exists():
            self._log_file.unlink(missing_ok=True)
            return None
        try:
            content = self._checkpoint_file.read_bytes()
            check_zip(content)  # torch does not compare the checksums of its files
            state = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        except Exception as error:
            raise OutputError(f"{self._checkpoint_file} cannot be read ({error}); delete it to start over") from error
        if not isinstance(state, dict) or not isinstance(state.get("log_rows", 0), int):
            raise OutputError(f"{self._checkpoint_file} is not a checkpoint of policykd; delete it to start over")
        if state.get("format") != _FORMAT or "log_rows" not in state:
            raise OutputError(
                f"{self._checkpoint_file} was written by another version of policykd; continue with that version, or "
                f"delete it to start over"
            )
        rows = self.log()[: state["log_rows"]]
        write_text(self._log_file, "".join(json.dumps(row) + "\n" for row in rows))
        return state

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint with ``state``, which holds tensors and plain values."""
        buffer = io.BytesIO()
        torch.save({**state, "format": _FORMAT, "log_rows": len(self.log())}, buffer)
        write_bytes(self._checkpoint_file, buffer.getvalue())

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one measurement to the log."""
        with self._log_file.open("a") as file:
            file.write(json.dumps(as_plain(row), allow_nan=False) + "\n")

    def log(self) -> list[dict[str, Any]]:
        """Return all measurements, without a last line that an interruption truncated."""
        if not self._log_file.exists():
            return []
        whole = self._log_file.read_bytes().rpartition(b"\n")[0]

        def damaged(reason: str) -> OutputError:
            return OutputError(f"{reason}; delete {self.path} to start over")

        rows = [parse_json(line, f"a line of {self._log_file}", damaged) for line in whole.splitlines()]
        if not all(isinstance(row, dict) for row in rows):
            raise damaged(f"a line of {self._log_file} is not a JSON object")
        return rows


def check_zip(content: bytes) -> None:
    """Raise ValueError for a zip that is damaged, or whose members unpack to far more than its size."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(info.file_size for info in archive.infolist()) > 2 * len(content) + 1_000_000:
            raise ValueError("its members unpack to more than twice its size")
        broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"the checksum of {broken} is wrong")


def _occupied(path: Path) -> FileLock:
    """Acquire and return the lock of a folder; the system releases it when the process ends for any reason."""
    lock = FileLock(path.resolve() / ".lock", timeout=PATIENCE, thread_local=False, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(f"another process is working in {path}; wait until it ends or choose another --out") from None
    return lock


@contextmanager
def only_process(path: Path) -> Iterator[None]:
    """Hold the lock of a folder, which exists.

    Raises:
        OutputError: if another process works in the folder.
    """
    lock = _occupied(path)
    try:
        yield
    finally:
        lock.release()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON-lines log, without a truncated last line; an empty list if the file does not exist."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_bytes().splitlines():
        try:
            rows.append(parse_json(line, str(path)))
        except OutputError:
            break
    return [row for row in rows if isinstance(row, dict)]


def same_run(path: Path, config: Mapping[str, Any]) -> bool:
    """Return whether a folder holds a run of exactly this configuration."""
    file = path / "config.json"
    return file.exists() and not _differing(path, config)


def _check_same(path: Path, config: Mapping[str, Any]) -> None:
    differing = _differing(path, config)
    if differing:
        shown = "; ".join(differing[:5])
        raise ConfigError(f"the run in {path} was started with another configuration ({shown}); choose another --out")


def _differing(path: Path, config: Mapping[str, Any]) -> list[str]:
    wanted = json.loads(json.dumps(as_plain(config)))
    return sorted(_differences(read_json(path / "config.json"), wanted))


def _differences(stored: Any, wanted: Any, name: str = "") -> list[str]:
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        found = []
        for key in {*stored, *wanted}:
            found += _differences(stored.get(key), wanted.get(key), f"{name}.{key}" if name else str(key))
        return found
    return [] if stored == wanted else [f"{name}: {stored} in the folder, {wanted} now"]
