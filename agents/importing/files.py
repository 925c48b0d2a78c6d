"""Reading files of strangers: sizes are checked before content.

It returns bytes and knows no format.
"""

from __future__ import annotations

from pathlib import Path

from policykd.agents.importing.torch_files import MOST_BYTES
from policykd.errors import PolicyFileError


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        PolicyFileError: for a file that is missing, unreadable, or larger than :data:`MOST_BYTES`.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise PolicyFileError(f"{path} is larger than {MOST_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise PolicyFileError(f"cannot read {path}: {error.strerror or error}") from None
