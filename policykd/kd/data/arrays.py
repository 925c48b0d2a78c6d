"""Reading NumPy archives without objects: a damaged or dangerous one is refused with its name and byte counts.

It reads and changes arrays only; it knows nothing of networks or training.
"""

from __future__ import annotations

import math
import sys
import tokenize
import zipfile
from pathlib import Path

import numpy as np

from policykd.kd.data.files import DataFileError
from policykd.storage import ZIP_DAMAGE

MOST_BYTES = 4_000_000_000
"""Largest sum of unpacked arrays."""

_ENDING = ".npy"
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_DAMAGE = (*ZIP_DAMAGE, TypeError, tokenize.TokenError, RecursionError)
"""Errors that a damaged zip or header can end in."""


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Read every array; object arrays (pickles) are refused.

    The size that an array's header promises is compared with its bytes before anything is allocated.

    Raises:
        DataFileError: The archive or an array in it is damaged; the message says how many bytes were expected.
    """
    path = Path(path)
    if not path.exists():
        raise DataFileError(f"{path} does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            unpacked = sum(info.file_size for info in members)
            if unpacked > MOST_BYTES:
                raise DataFileError(f"{path} unpacks to {unpacked:,} bytes; at most {MOST_BYTES:,} are read")
            return {_name(path, info.filename): _member(path, archive, info) for info in members}
    except DataFileError:
        raise
    except _DAMAGE as error:
        size = path.stat().st_size
        raise DataFileError(f"{path} ({size} bytes) is not a complete .npz archive: {error}") from None


def _name(path: Path, member: str) -> str:
    if not member.endswith(_ENDING):
        raise DataFileError(f"{path} holds {member[:80]!r}, which is not an array; it is not an .npz archive")
    return member.removesuffix(_ENDING)


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    name = info.filename.removesuffix(_ENDING)
    try:
        with archive.open(info) as stream:
            shape, _, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
            given = info.file_size - stream.tell()
        if dtype.hasobject or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != given:
            raise ValueError(f"its header says {dtype} {shape}, {given} bytes follow")
        with archive.open(info) as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
        _check_text(array)
        return array
    except (*_DAMAGE, AttributeError, SyntaxError, MemoryError) as error:
        raise DataFileError(f"{path}: {name!r} is damaged, expected {info.file_size} bytes: {error}") from None


def _check_text(array: np.ndarray) -> None:
    """Raise ValueError for text with a number that is not a character; Python would end in a SystemError at its use."""
    if array.dtype.kind != "U" or array.nbytes == 0:
        return
    numbers = np.frombuffer(array.tobytes(), np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    if numbers.max() > sys.maxunicode:
        raise ValueError(f"its text holds the number {numbers.max():,}, which is not a character")
