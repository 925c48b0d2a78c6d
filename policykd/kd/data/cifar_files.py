"""Files of CIFAR-10 and CIFAR-100: the binary version, and the python version without unpickling it.

It reads and changes arrays only; it knows nothing of networks or training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from policykd.kd.data.files import DataFileError, check_size, find, read_all
from policykd.kd.data.plain_pickle import UnsafePickleError, read_plain_pickle

_PIXELS = 3 * 32 * 32


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


def read_parts(folder: Path, names: list[str], records: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Read and join batch files of either version.

    Args:
        folder: Folder of the files.
        names: Their names without an ending.
        records: Images per file.
        classes: 10 or 100.

    Returns:
        Images ``(N, 3, 32, 32)`` of bytes and labels ``(N,)`` in int64.

    Raises:
        DataFileError: A file is missing, damaged, or has a label out of range.
    """
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


def batch_folder(root: Path, classes: int) -> Path:
    """Return the folder of the batch files: the root itself, or the folder in it that the archives unpack to."""
    inner = [f"cifar-{classes}-{end}" for end in ("batches-bin", "batches-py", "binary", "python")]
    return next((root / name for name in inner if (root / name).is_dir()), root)


def batch_names(classes: int) -> tuple[list[str], list[str]]:
    """Return the names of the training and of the test files."""
    return ([f"data_batch_{n}" for n in range(1, 6)], ["test_batch"]) if classes == 10 else (["train"], ["test"])
