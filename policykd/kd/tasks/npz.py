"""Any data set in one ``.npz`` file: ``x_train``, ``y_train``, ``x_test``, ``y_test`` (and ``_val``), or ``x, y``.

It provides data and networks; training and comparison are left to the benchmark.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from policykd.kd.data.arrays import read_npz
from policykd.kd.data.files import DataFileError
from policykd.kd.networks import MLP, CNN1d, ResNet
from policykd.kd.tasks.base import STAGE_TAPS, Split, Task, stratified
from policykd.kd.tasks.registry import register

VECTOR_TAPS = {"features": ("hidden2",), "levels": ("hidden1", "hidden2")}


@register("npz")
def npz(*, path: str | Path, classes: int | None = None, seed: int = 0) -> Task:
    """A task from an ``.npz`` file; what is not split in it is split here (60/20/20, or a tenth for validation).

    Inputs are ``(N, D)``, ``(N, C, T)`` or ``(N, C, H, W)``; the networks are chosen accordingly.

    Args:
        path: The file.
        classes: Number of classes; one more than the largest training label if None.
        seed: Seeds the split.

    Raises:
        DataFileError: Arrays are missing, damaged or do not fit one another.
    """
    arrays = read_npz(path)
    if {"x", "y"} <= arrays.keys():
        whole = _pair(path, arrays, "x", "y")
        train, val, test = (whole.take(rows) for rows in stratified(whole.y.numpy(), (0.6, 0.2, 0.2), seed))
    else:
        train, test = (_pair(path, arrays, f"x_{part}", f"y_{part}") for part in ("train", "test"))
        if "x_val" in arrays:
            val = _pair(path, arrays, "x_val", "y_val")
        else:
            train, val = (train.take(rows) for rows in stratified(train.y.numpy(), (0.9, 0.1), seed))
    total = int(train.y.max()) + 1 if classes is None else classes
    shape = tuple(train.x.shape[1:])
    return Task(
        "npz",
        train,
        val,
        test,
        total,
        lambda: make_network(shape, total, small=True),
        lambda: make_network(shape, total, small=False),
        taps=VECTOR_TAPS if len(shape) == 1 else STAGE_TAPS,
        about=f"arrays of {path}",
    )


def _pair(path: str | Path, arrays: dict[str, np.ndarray], x: str, y: str) -> Split:
    if x not in arrays or y not in arrays:
        raise DataFileError(f"{path} needs arrays {x!r} and {y!r}; it has {sorted(arrays)}")
    inputs, labels = arrays[x], arrays[y]
    if labels.shape != (len(inputs),) or labels.dtype.kind not in "iu" or inputs.ndim not in (2, 3, 4):
        raise DataFileError(f"{path}: {x!r} {inputs.shape} and {y!r} {labels.shape} {labels.dtype} do not fit")
    if inputs.dtype.kind not in "fiub" or not np.isfinite(inputs).all():
        raise DataFileError(f"{path}: {x!r} must hold finite numbers, it is {inputs.dtype}")
    return Split(torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(labels.astype(np.int64)))


def make_network(shape: tuple[int, ...], classes: int, *, small: bool) -> nn.Module:
    """Return a student (`small`) or teacher for samples ``(D,)``, ``(C, T)`` or ``(C, H, W)``."""
    if len(shape) == 1:
        return MLP(shape, (16, 16) if small else (128, 128), classes=classes)
    if len(shape) == 2:
        return CNN1d(shape[0], (8, 8, 16) if small else (32, 64, 128), classes=classes)
    widths = (8, 8, 16, 32) if small else (16, 16, 32, 64)
    return ResNet(8 if small else 14, widths, classes=classes, in_channels=shape[0])
