"""Reading data files from strangers: sizes are checked before content, and messages name file and byte counts.

It reads and changes arrays only; it knows nothing of networks or training.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from policykd.errors import PolicykdError


class DataFileError(PolicykdError, ValueError):
    """A data file is missing, has another size than its format says, or holds impossible values."""


def find(root: str | Path, *names: str) -> Path:
    """The first of several possible files or folders under a root.

    Raises:
        DataFileError: None exists; the message lists where it was looked for.
    """
    for name in names:
        if (Path(root) / name).exists():
            return Path(root) / name
    raise DataFileError(f"none of these exists: {', '.join(str(Path(root) / name) for name in names)}")


def read_all(path: Path) -> bytes:
    """The content of a file, unpacked if its name ends in ``.gz``.

    Raises:
        DataFileError: The file cannot be read, or the compressed stream ends early.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                return file.read()
        return path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        size = path.stat().st_size if path.exists() else 0
        raise DataFileError(f"{path} ({size} bytes) cannot be read: {error}") from None


def check_size(path: Path, content: bytes, expected: int, why: str) -> None:
    """Compare a content's length with what its format says.

    Raises:
        DataFileError: They differ.
    """
    if len(content) != expected:
        raise DataFileError(f"{path} has {len(content)} bytes, expected {expected} ({why})")
