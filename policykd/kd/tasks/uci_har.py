"""UCI-HAR: smartphone motion in windows of 128 steps and nine channels, from the unpacked folders.

It provides data and networks; training and comparison are left to the benchmark.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from policykd.kd.data.files import DataFileError, find
from policykd.kd.data.uci_har_files import CLASSES, SIGNALS, read_part
from policykd.kd.networks import CNN1d
from policykd.kd.tasks.base import Split, Task
from policykd.kd.tasks.registry import register


def _part(folder: Path, part: str) -> tuple[Split, np.ndarray]:
    signals, labels, persons = read_part(folder, part)
    return Split(torch.from_numpy(signals), torch.from_numpy(labels)), persons


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
    whole, persons = _part(folder, "train")
    test, _ = _part(folder, "test")
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
        CLASSES,
        lambda: CNN1d(len(SIGNALS), (8, 16, 32), classes=CLASSES),
        lambda: CNN1d(len(SIGNALS), (64, 128, 256), classes=CLASSES),
        about=f"UCI-HAR from {root}",
    )
