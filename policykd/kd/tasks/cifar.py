"""CIFAR-10 and CIFAR-100 from disk: the binary version, and the python version without unpickling it.

It provides data and networks; training and comparison are left to the benchmark.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from policykd.kd.data.cifar_files import batch_folder, batch_names, read_parts
from policykd.kd.networks import resnet
from policykd.kd.tasks.base import Split, Task, stratified
from policykd.kd.tasks.registry import register

_MEAN = {10: (0.4914, 0.4822, 0.4465), 100: (0.5071, 0.4865, 0.4409)}
_STD = {10: (0.2470, 0.2435, 0.2616), 100: (0.2673, 0.2564, 0.2762)}


def _task(root: str | Path, classes: int, seed: int, records: int) -> Task:
    folder, (names, test_names) = batch_folder(Path(root), classes), batch_names(classes)
    whole = _split(read_parts(folder, names, records * (1 if classes == 10 else 5), classes), classes)
    test = _split(read_parts(folder, test_names, records, classes), classes)
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
