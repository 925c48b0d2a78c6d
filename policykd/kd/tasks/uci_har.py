"""UCI-HAR: smartphone motion in windows of 128 steps and nine channels, from the unpacked folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from policykd.kd.networks import CNN1d
from policykd.kd.tasks.base import Split, Task
from policykd.kd.tasks.files import DataFileError, find
from policykd.kd.tasks.registry import register

_SIGNALS = tuple(f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
_STEPS, _CLASSES = 128, 6


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


def read_part(root: Path, part: str) -> tuple[Split, np.ndarray]:
    """Signals, labels and persons of ``"train"`` or ``"test"``.

    Raises:
        DataFileError: A file is missing or damaged, or they do not belong together.
    """
    labels = read_table(root / part / f"y_{part}.txt", 1)[:, 0].astype(np.int64) - 1
    persons = read_table(root / part / f"subject_{part}.txt", 1)[:, 0].astype(np.int64)
    channels = []
    for signal in _SIGNALS:
        path = root / part / "Inertial Signals" / f"{signal}_{part}.txt"
        channels.append(read_table(path, _STEPS))
        if len(channels[-1]) != len(labels):
            raise DataFileError(f"{path} has {len(channels[-1])} rows, expected {len(labels)}, one per label")
    if len(persons) != len(labels) or labels.min() < 0 or labels.max() >= _CLASSES:
        raise DataFileError(f"{root / part}: {len(labels)} labels in 1..{labels.max() + 1}, {len(persons)} persons")
    return Split(torch.from_numpy(np.stack(channels, 1)), torch.from_numpy(labels)), persons


@register("uci-har")
def uci_har(*, root: str | Path, held_out: float = 0.2, seed: int = 0) -> Task:
    """UCI-HAR with its own split by person; validation holds out whole persons of the training part as well.

    Args:
        root: The ``UCI HAR Dataset`` folder, or the one above it.
        held_out: Share of the training persons used for validation (at least one).
        seed: Seeds their choice.

    Raises:
        DataFileError: A file is missing or damaged, or there is only one person.
    """
    folder = find(root, "UCI HAR Dataset", ".")
    whole, persons = read_part(folder, "train")
    test, _ = read_part(folder, "test")
    names = np.random.default_rng(seed).permutation(np.unique(persons))
    if len(names) < 2:
        raise DataFileError(f"{folder}: validation by person needs at least two persons, found {len(names)}")
    mine = np.isin(persons, names[: max(1, round(held_out * len(names)))])
    train = whole.take(np.flatnonzero(~mine))
    mean, std = train.x.mean((0, 2), keepdim=True), train.x.std((0, 2), keepdim=True).clamp_min(1e-6)
    train, val, test = (
        Split((part.x - mean) / std, part.y) for part in (train, whole.take(np.flatnonzero(mine)), test)
    )
    return Task(
        "uci-har",
        train,
        val,
        test,
        _CLASSES,
        lambda: CNN1d(len(_SIGNALS), (8, 16, 32), classes=_CLASSES),
        lambda: CNN1d(len(_SIGNALS), (64, 128, 256), classes=_CLASSES),
        about=f"UCI-HAR from {root}",
    )
