"""Reading NumPy archives without objects: a damaged or dangerous one is refused with its name and byte counts.

It reads and changes arrays only; it knows nothing of networks or training.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from policykd.kd.data.files import DataFileError


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Read every array; object arrays (pickles) are refused.

    Raises:
        DataFileError: The archive or an array in it is damaged; the message says how many bytes were expected.
    """
    path = Path(path)
    if not path.exists():
        raise DataFileError(f"{path} does not exist")
    try:
        archive = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataFileError(f"{path} ({path.stat().st_size} bytes) is not a complete .npz archive: {error}") from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataFileError(f"{path} is no .npz archive")
    with archive:
        return {name: _member(path, archive, name) for name in archive.files}


def _member(path: Path, archive: Any, name: str) -> np.ndarray:
    try:
        return archive[name]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        expected = archive.zip.getinfo(f"{name}.npy").file_size
        raise DataFileError(f"{path}: {name!r} is damaged, expected {expected} bytes: {error}") from None
