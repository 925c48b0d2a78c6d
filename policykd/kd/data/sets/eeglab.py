"""Epochs of an EEGLAB recording, labeled by the position of the target: left or right visual field.

It only reads: preparing, splitting and training happen elsewhere.
"""

from __future__ import annotations

import numpy as np

from policykd.kd.data.data_set import DataSet
from policykd.kd.data.eeglab_files import read_epochs
from policykd.kd.data.files import DataFileError
from policykd.kd.data.samples import Samples
from policykd.kd.data.source import Source

BLOCKS = 8


def read(source: Source) -> Samples:
    """Read the first ``.set`` file of a folder; the label is the position of the event at time zero.

    There is one person, so the group is one of eight consecutive blocks of epochs: neighbors are alike.
    """
    epochs = read_epochs(source, source.names(".", ".set")[0].removeprefix("./"))
    known, labels = np.unique(epochs.positions, return_inverse=True)
    if len(known) < 2:
        raise DataFileError(f"{source.root}: all epochs have position {known[0]!r}; two classes are needed")
    count = len(epochs.data)
    blocks = min(BLOCKS, count)
    return Samples(
        epochs.data,
        labels.astype(np.int64),
        tuple(f"position {position}" for position in known),
        np.arange(count, dtype=np.int64) * blocks // count,
        tuple(f"block {number}" for number in range(blocks)),
        channels=epochs.channels,
        rate=epochs.rate,
        about="EEGLAB epochs labeled by the position of the target; the groups are consecutive blocks",
    )


DATA_SET = DataSet(
    name="eeglab",
    title="electroencephalogram of one person: position of a visual target",
    origin="github.com/sccn/eeglab, sample_data/eeglab_data_epochs_ica.set and .fdt, or your own in that form",
    license="BSD-2-Clause (EEGLAB)",
    size="80 epochs, 32 channels x 384 steps, 128 Hz; 4 MB",
    read=read,
    groups="block of epochs",
)
