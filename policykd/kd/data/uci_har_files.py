"""Files of UCI-HAR: text tables of smartphone motion, one file per channel, with labels and persons.

It reads and changes arrays only; it knows nothing of networks or training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from policykd.kd.data.files import DataFileError

SIGNALS = tuple(f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
"""Channels in the order of the arrays."""
STEPS, CLASSES = 128, 6


def read_table(path: Path, columns: int) -> np.ndarray:
    """Read a text table of numbers.

    Returns:
        Array ``(N, columns)`` in float32.

    Raises:
        DataFileError: The file is missing, has another number of columns or something that is not a finite number.
    """
    if not path.exists():
        raise DataFileError(f"{path} does not exist")
    size = path.stat().st_size
    try:
        table = np.loadtxt(path, dtype=np.float32, ndmin=2)
    except ValueError as error:
        raise DataFileError(f"{path} ({size} bytes) is damaged: {error}") from None
    if table.shape[1] != columns or not np.isfinite(table).all():
        raise DataFileError(
            f"{path} ({size} bytes) has rows of {table.shape[1]} values, expected {columns} finite ones"
        )
    return table


def read_part(root: Path, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read ``"train"`` or ``"test"``.

    Returns:
        Signals ``(N, 9, 128)`` in float32, labels ``(N,)`` and persons ``(N,)``.

    Raises:
        DataFileError: A file is missing or damaged, or they do not belong together.
    """
    labels = read_table(root / part / f"y_{part}.txt", 1)[:, 0].astype(np.int64) - 1
    persons = read_table(root / part / f"subject_{part}.txt", 1)[:, 0].astype(np.int64)
    channels = []
    for signal in SIGNALS:
        path = root / part / "Inertial Signals" / f"{signal}_{part}.txt"
        channels.append(read_table(path, STEPS))
        if len(channels[-1]) != len(labels):
            raise DataFileError(f"{path} has {len(channels[-1])} rows, expected {len(labels)}, one per label")
    if len(persons) != len(labels) or labels.min() < 0 or labels.max() >= CLASSES:
        raise DataFileError(f"{root / part}: {len(labels)} labels in 1..{labels.max() + 1}, {len(persons)} persons")
    return np.stack(channels, 1), labels, persons
