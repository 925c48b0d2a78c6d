"""MNIST and Fashion-MNIST from the four idx files, plain or gzipped.

It provides data and networks; training and comparison are left to the benchmark.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch

from policykd.kd.data.files import DataFileError, check_size, find, read_all
from policykd.kd.networks import ResNet
from policykd.kd.tasks.base import Split, Task, stratified
from policykd.kd.tasks.registry import register

_UNSIGNED_BYTE = 0x08


def read_idx(path: str | Path) -> np.ndarray:
    """Read an idx file of unsigned bytes.

    The header is two zero bytes, the type, the number of dimensions, and each dimension as a big-endian integer.

    Raises:
        DataFileError: The header is not an idx header of bytes, or the size differs from what it says.
    """
    path = Path(path)
    content = read_all(path)
    if len(content) < 4 or content[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
        raise DataFileError(
            f"{path} is not an idx file of unsigned bytes: it starts with {content[:4].hex(' ') or 'nothing'}"
        )
    dims = content[3]
    head = 4 + 4 * dims
    if len(content) < head:
        raise DataFileError(
            f"{path} has {len(content)} bytes, expected at least {head} for a header of {dims} dimensions"
        )
    shape = struct.unpack(f">{dims}I", content[4:head])
    check_size(
        path, content, head + int(np.prod(shape, dtype=np.int64)), f"header and {' x '.join(map(str, shape))} bytes"
    )
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def read_pair(root: str | Path, stem: str) -> Split:
    """Images and labels of one part (``"train"`` or ``"t10k"``), scaled to [0, 1].

    Raises:
        DataFileError: A file is missing or damaged, or the two do not belong together.
    """
    images_path = _idx_file(root, f"{stem}-images", 3)
    images, labels = read_idx(images_path), read_idx(_idx_file(root, f"{stem}-labels", 1))
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise DataFileError(f"{images_path}: images {images.shape} and labels {labels.shape} do not belong together")
    x = torch.from_numpy(images.astype(np.float32) / 255.0)[:, None]
    return Split(x, torch.from_numpy(labels.astype(np.int64)))


def _idx_file(root: str | Path, name: str, dims: int) -> Path:
    stems = (f"{name}-idx{dims}-ubyte", f"{name}.idx{dims}-ubyte")
    return find(root, *(stem + end for stem in stems for end in ("", ".gz")))


def _task(name: str, root: str | Path, seed: int) -> Task:
    both, test = read_pair(root, "train"), read_pair(root, "t10k")
    train, val = stratified(both.y.numpy(), (0.9, 0.1), seed)
    return Task(
        name,
        both.take(train),
        both.take(val),
        test,
        10,
        lambda: ResNet(8, in_channels=1),
        lambda: ResNet(20, in_channels=1),
        about=f"{name} from {root}",
    )


@register("mnist")
def mnist(*, root: str | Path, seed: int = 0) -> Task:
    """MNIST; a tenth of the training files is held out for validation.

    Args:
        root: Folder of the idx files.
        seed: Seeds the split.
    """
    return _task("mnist", root, seed)


@register("fashion-mnist")
def fashion_mnist(*, root: str | Path, seed: int = 0) -> Task:
    """Fashion-MNIST; a tenth of the training files is held out for validation.

    Args:
        root: Folder of the idx files.
        seed: Seeds the split.
    """
    return _task("fashion-mnist", root, seed)
