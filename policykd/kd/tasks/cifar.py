"""CIFAR-10 and CIFAR-100 from disk: the binary version, and the python version without unpickling it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from policykd.kd.networks import resnet
from policykd.kd.tasks.base import Split, Task, stratified
from policykd.kd.tasks.files import DataFileError, check_size, find, read_all
from policykd.kd.tasks.plainpickle import UnsafePickleError, read_plain_pickle
from policykd.kd.tasks.registry import register

_PIXELS = 3 * 32 * 32
_MEAN = {10: (0.4914, 0.4822, 0.4465), 100: (0.5071, 0.4865, 0.4409)}
_STD = {10: (0.2470, 0.2435, 0.2616), 100: (0.2673, 0.2564, 0.2762)}


def read_binary(path: str | Path, *, records: int, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Read a file of the binary version: per record the label bytes, then 3072 pixel bytes.

    Args:
        path: The file.
        records: Images that it must hold.
        label_bytes: 1 for CIFAR-10; 2 for CIFAR-100, whose second byte is the fine label.

    Returns:
        Images ``(N, 3, 32, 32)`` and labels ``(N,)``, both of bytes.

    Raises:
        DataFileError: The file has another size.
    """
    path, width = Path(path), label_bytes + _PIXELS
    content = read_all(path)
    check_size(path, content, records * width, f"{records} records of {width} bytes")
    rows = np.frombuffer(content, np.uint8).reshape(records, width)
    return rows[:, label_bytes:].reshape(-1, 3, 32, 32), rows[:, label_bytes - 1]


def read_python(path: str | Path, *, records: int, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a file of the python version as plain data; the pickle is parsed, never executed.

    Args:
        path: The file.
        records: Images that it must hold.
        key: ``"labels"`` or ``"fine_labels"``.

    Returns:
        Images ``(N, 3, 32, 32)`` and labels ``(N,)``.

    Raises:
        DataFileError: The file holds something else than plain data, or another number of images.
    """
    path = Path(path)
    try:
        content: Any = read_plain_pickle(read_all(path))
    except UnsafePickleError as error:
        raise DataFileError(f"{path}: {error} (expected {records * _PIXELS} bytes of pixels)") from None
    fields = (
        {k.decode() if isinstance(k, bytes) else k: v for k, v in content.items()} if isinstance(content, dict) else {}
    )
    data, labels = fields.get("data"), fields.get(key)
    if not isinstance(data, np.ndarray) or not isinstance(labels, list):
        raise DataFileError(f"{path} holds no 'data' and {key!r}; it has {sorted(map(str, fields))}")
    if data.dtype != np.uint8 or data.nbytes != records * _PIXELS or len(labels) != records:
        raise DataFileError(
            f"{path} holds {data.nbytes} bytes of pixels and {len(labels)} labels, "
            f"expected {records * _PIXELS} bytes ({records} images) and {records} labels"
        )
    return data.reshape(-1, 3, 32, 32), np.array(labels, dtype=np.int64)


def _read_parts(folder: Path, names: list[str], records: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for name in names:
        if (folder / f"{name}.bin").exists():
            x, y = read_binary(folder / f"{name}.bin", records=records, label_bytes=1 if classes == 10 else 2)
        else:
            path = find(folder, name, f"{name}.bin")
            x, y = read_python(path, records=records, key="labels" if classes == 10 else "fine_labels")
        if int(y.max()) >= classes:
            raise DataFileError(f"{folder / name} has label {int(y.max())}, expected 0 to {classes - 1}")
        images.append(x)
        labels.append(y)
    return np.concatenate(images), np.concatenate(labels).astype(np.int64)


def _task(root: str | Path, classes: int, seed: int, records: int) -> Task:
    names = [f"data_batch_{n}" for n in range(1, 6)] if classes == 10 else ["train"]
    inner = [f"cifar-{classes}-{end}" for end in ("batches-bin", "batches-py", "binary", "python")]
    folder = next((Path(root) / name for name in inner if (Path(root) / name).is_dir()), Path(root))
    whole = _split(_read_parts(folder, names, records * (1 if classes == 10 else 5), classes), classes)
    test = _split(_read_parts(folder, ["test_batch" if classes == 10 else "test"], records, classes), classes)
    train, val = stratified(whole.y.numpy(), (0.9, 0.1), seed)
    return Task(
        f"cifar{classes}",
        whole.take(train),
        whole.take(val),
        test,
        classes,
        lambda: resnet(8, wide=True, classes=classes),
        lambda: resnet(32, wide=True, classes=classes),
        about=f"CIFAR-{classes} from {root}",
    )


def _split(pair: tuple[np.ndarray, np.ndarray], classes: int) -> Split:
    x = torch.from_numpy(pair[0].astype(np.float32)).div_(255.0)
    mean, std = (torch.tensor(values[classes]).view(3, 1, 1) for values in (_MEAN, _STD))
    return Split((x - mean) / std, torch.from_numpy(pair[1]))


@register("cifar10")
def cifar10(*, root: str | Path, seed: int = 0, records: int = 10_000) -> Task:
    """CIFAR-10; a tenth of the training images is held out for validation.

    Args:
        root: Folder of the batches, or the folder above it.
        seed: Seeds the split.
        records: Images per batch file.
    """
    return _task(root, 10, seed, records)


@register("cifar100")
def cifar100(*, root: str | Path, seed: int = 0, records: int = 10_000) -> Task:
    """CIFAR-100 with fine labels; a tenth of the training images is held out for validation.

    Args:
        root: Folder of ``train`` and ``test``, or the folder above it.
        seed: Seeds the split.
        records: Images in the test file; the training file holds five times as many.
    """
    return _task(root, 100, seed, records)
