"""File output: atomic writes, and checks before the work starts that a folder can be written.

It knows nothing of the content of the files.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import struct
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from policykd.errors import OutputError
from policykd.parsing import parse_json

ZIP_DAMAGE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, ValueError, KeyError, OSError, EOFError,
    NotImplementedError, RuntimeError, OverflowError,
)  # fmt: skip
"""Errors that a damaged zip can end in: Python's own reader has no class for all of them."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader sees the old content or the new one, never a part, even after kill -9.

    Raises:
        OutputError: naming the file and the reason, for example a full disk.
    """
    temporary = unfinished(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {reason_of(error)}") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def reason_of(error: OSError) -> str:
    """Return why a file could not be written or read, and the cure where it is known."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{reason}; free some space (df -h, df -i), then run the same command with --resume"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{reason}; choose another --out"
    return reason


def write_text(path: Path, content: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, indented for people; NaN and infinity are refused.

    Raises:
        ValueError: for content that JSON cannot hold.
        OutputError: as :func:`write_bytes`.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        FileNotFoundError: if it does not exist.
        OutputError: naming the file, if it cannot be read, is not JSON or does not hold an object.
    """

    def invalid(reason: str) -> OutputError:
        return OutputError(f"{reason}; delete it to start over")

    try:
        content = parse_json(path.read_bytes(), str(path), invalid)
    except (FileNotFoundError, OutputError):
        raise
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from None
    if not isinstance(content, dict):
        raise OutputError(f"{path} does not hold a JSON object; delete it to start over")
    return content


def copy_folder(source: Path, target: Path) -> None:
    """Replace a folder with a copy of another; a reader sees the whole copy or none of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(target)
    try:
        shutil.copytree(source, temporary)
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def unfinished(path: Path, suffix: str = "") -> Path:
    """Return a new name in the folder of ``path`` for what is still being written, with the suffix its writer needs."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp{suffix}")


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process had begun to write in a folder, where no process may be writing now."""
    for path in list(folder.rglob(".*.tmp*")):
        if not re.fullmatch(r"\..+\.[0-9a-f]{8}\.tmp(\.\w+)?", path.name):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def prepare_file(path: Path) -> Path:
    """Create the folder of a result file and check that it can be written, before any work is done for it.

    Args:
        path: the file.

    Returns:
        The file.

    Raises:
        OutputError: if it is a folder, or its folder cannot be created or written, or the disk is nearly full.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file in it with --out")
    prepare_folder(path.parent, megabytes=1.0)
    return path


def prepare_folder(path: Path, megabytes: float = 50.0) -> Path:
    """Create an output folder and check that it can be written, before any work is done for it.

    Args:
        path: the folder; parents are created.
        megabytes: free space required, MB.

    Returns:
        The folder.

    Raises:
        OutputError: if it is a file, cannot be created or written, or the disk is nearly full.
    """
    probe = path / f".probe-{uuid.uuid4().hex[:8]}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror or error}; choose another --out") from None
    free = shutil.disk_usage(path).free / 1e6
    if free < megabytes:
        raise OutputError(
            f"only {free:.0f} MB are free under {path}, {megabytes:.0f} MB are needed; choose another --out"
        )
    return path
