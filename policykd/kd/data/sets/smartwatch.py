"""Shoulder exercises of ten persons, measured by a smartwatch (Burns et al. 2018), as seglearn distributes them.

It only reads: preparing, splitting and training happen elsewhere.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from policykd.kd.data.data_set import DataSet
from policykd.kd.data.files import DataFileError
from policykd.kd.data.plain_pickle import read_plain_pickle
from policykd.kd.data.samples import Samples
from policykd.kd.data.source import Source
from policykd.kd.data.windows import cut_windows

LENGTH, STRIDE, RATE = 128, 64, 50.0
_FILE = "seglearn/data/watch_dataset.npy"
_CHANNELS = tuple(f"{sensor}_{axis}" for sensor in ("acceleration", "rotation") for axis in "xyz")


def read(source: Source) -> Samples:
    """Read all recordings in windows of 2.56 s that overlap by half; the group is the person.

    The distributor's file is a pickle inside an ``.npy`` file; it is parsed as plain data.
    """
    content = _content(source)
    recordings, labels = content["X"], np.asarray(content["y"]).astype(np.int64)
    persons = np.asarray(content["subject"]).astype(np.int64)
    if not len(recordings) == len(labels) == len(persons):
        raise DataFileError(f"{_FILE}: {len(recordings)} recordings, {len(labels)} labels, {len(persons)} persons")
    windows = [cut_windows(np.asarray(recording), LENGTH, STRIDE) for recording in recordings]
    counts = [len(part) for part in windows]
    known, groups = np.unique(persons, return_inverse=True)
    return Samples(
        np.concatenate(windows),
        np.repeat(labels, counts),
        tuple(map(str, content["y_labels"])),
        np.repeat(groups.astype(np.int64), counts),
        tuple(f"person {person}" for person in known),
        channels=_CHANNELS,
        rate=RATE,
        about=f"smartwatch (seglearn): windows of {LENGTH} steps at {RATE:g} Hz, {STRIDE} steps apart",
    )


def _content(source: Source) -> dict[str, Any]:
    raw = source.read(_FILE)
    file = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = header(file)
    except ValueError as error:
        raise DataFileError(f"{source.root}: {_FILE} is not an .npy file: {error}") from None
    if shape != () or kind != np.dtype(object):
        raise DataFileError(f"{source.root}: {_FILE} holds an array {kind} {shape}, expected one dictionary")
    items = read_plain_pickle(raw[file.tell() :])
    content = items[0] if isinstance(items, list) and len(items) == 1 else None
    if not isinstance(content, dict) or not {"X", "y", "subject", "y_labels"} <= content.keys():
        raise DataFileError(f"{source.root}: {_FILE} needs the entries X, y, subject and y_labels")
    return content


DATA_SET = DataSet(
    name="smartwatch",
    title="smartwatch acceleration and rotation of ten persons: seven shoulder exercises",
    origin="PyPI package seglearn, inside the wheel",
    license="BSD-3-Clause (seglearn)",
    size="140 recordings, 6 channels, 50 Hz, 3,605 windows; 18 MB",
    read=read,
    groups="person",
    package="seglearn",
    sha256="d9127cf2b9149d2f63bcaa0f17b1bee5f5b5220f993d66da6a3b531d8bb77393",
)
