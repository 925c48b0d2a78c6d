"""UCI-HAR (Anguita et al. 2013): smartphone motion of thirty persons, six activities.

It only reads: preparing, splitting and training happen elsewhere.
"""

from __future__ import annotations

import numpy as np

from policykd.kd.data.data_set import DataSet
from policykd.kd.data.files import find
from policykd.kd.data.samples import Samples
from policykd.kd.data.source import Source
from policykd.kd.data.uci_har_files import SIGNALS, read_part

ACTIVITIES = ("walking", "walking upstairs", "walking downstairs", "sitting", "standing", "laying")


def read(source: Source) -> Samples:
    """Read both parts of the unpacked archive; the group is the person, and the parts share no person."""
    folder = find(source.folder, "UCI HAR Dataset", ".")
    parts = [read_part(folder, part) for part in ("train", "test")]
    persons = np.concatenate([part[2] for part in parts])
    known, groups = np.unique(persons, return_inverse=True)
    return Samples(
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        ACTIVITIES,
        groups.astype(np.int64),
        tuple(f"person {person}" for person in known),
        np.arange(len(persons)) >= len(parts[0][1]),
        SIGNALS,
        50.0,
        "UCI-HAR: windows of 2.56 s; its own training and test persons",
    )


DATA_SET = DataSet(
    name="uci_har",
    title="smartphone motion of thirty persons: six activities",
    origin="archive.ics.uci.edu, data set 240; --root is the unpacked folder 'UCI HAR Dataset' or the one above it",
    license="CC BY 4.0",
    size="10,299 windows, 9 channels x 128 steps; 260 MB",
    read=read,
    groups="person",
)
