"""What CIFAR-10 and CIFAR-100 have in common.

It only reads: preparing, splitting and training happen elsewhere.
"""

from __future__ import annotations

import numpy as np

from policykd.kd.data.cifar_files import batch_folder, batch_names, read_parts
from policykd.kd.data.samples import Samples
from policykd.kd.data.source import Source


def read_batches(source: Source, classes: int, names: tuple[str, ...], records: int = 10_000) -> Samples:
    """Read the batch files of the binary or the python version, training part first.

    Args:
        source: Folder of the batches, or the one above it.
        classes: 10 or 100.
        names: Names of the classes.
        records: Images per batch file; the training file of CIFAR-100 holds five times as many.
    """
    folder = batch_folder(source.folder, classes)
    train, test = batch_names(classes)
    x, y = read_parts(folder, train, records * (1 if classes == 10 else 5), classes)
    x_test, y_test = read_parts(folder, test, records, classes)
    return Samples(
        np.concatenate([x, x_test]),
        np.concatenate([y, y_test]),
        names,
        test=np.arange(len(y) + len(y_test)) >= len(y),
        about=f"CIFAR-{classes}",
    )
