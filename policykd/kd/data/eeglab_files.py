"""Data sets of EEGLAB: a MATLAB file with the description and a file of float32 values.

It reads and changes arrays only; it knows nothing of networks or training.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from policykd.kd.data.files import DataFileError
from policykd.kd.data.source import Source


@dataclass(frozen=True)
class Epochs:
    """Epochs of one recording.

    Attributes:
        data: Values ``(N, C, T)`` in float32, microvolts.
        channels: Names of the channels.
        rate: Samples per second.
        types: Type of the event that every epoch is cut around.
        positions: Field ``position`` of that event; an empty text where it has none.
    """

    data: np.ndarray
    channels: tuple[str, ...]
    rate: float
    types: tuple[str, ...]
    positions: tuple[str, ...]


def read_epochs(source: Source, name: str) -> Epochs:
    """Read a ``.set`` file that was cut into epochs, and the ``.fdt`` file that it names.

    Raises:
        DataFileError: A file is missing, damaged or has another form.
    """
    try:
        described = _describe(source.read(name), source, name)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, OSError, EOFError, zlib.error) as error:
        if isinstance(error, DataFileError):
            raise
        raise DataFileError(f"{source.root}: {name} is not an EEGLAB data set of epochs: {error}") from None
    return described


def _describe(content: bytes, source: Source, name: str) -> Epochs:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        record = loadmat(io.BytesIO(content), squeeze_me=True, struct_as_record=False)["EEG"]
    except (MatReadError, NotImplementedError, MemoryError) as error:
        raise ValueError(error) from None
    channels, steps, trials = (int(getattr(record, field)) for field in ("nbchan", "pnts", "trials"))
    if not isinstance(record.data, str):
        raise ValueError("it holds the values itself; save it with a separate .fdt file")
    folder = name.rpartition("/")[0]
    raw = source.read(f"{folder}/{record.data}" if folder else record.data)
    if min(channels, steps, trials) < 1 or len(raw) != 4 * channels * steps * trials:
        raise ValueError(f"{record.data} has {len(raw)} bytes, expected {trials} x {steps} x {channels} float32 values")
    data = np.frombuffer(raw, "<f4").reshape(trials, steps, channels).transpose(0, 2, 1)
    events = [_center(epoch) for epoch in np.atleast_1d(record.epoch)]
    names = tuple(str(place.labels) for place in np.atleast_1d(record.chanlocs))
    if len(events) != trials or len(names) != channels:
        raise ValueError(f"{len(events)} epochs and {len(names)} channel names for data {data.shape}")
    types, positions = zip(*events, strict=True)
    return Epochs(np.ascontiguousarray(data), names, float(record.srate), types, positions)


def _center(epoch: Any) -> tuple[str, str]:
    """Type and position of the event at time zero of an epoch."""
    times = np.atleast_1d(epoch.eventlatency).astype(np.float64)
    nearest = int(np.abs(times).argmin())
    positions = np.atleast_1d(getattr(epoch, "eventposition", ""))
    position = str(positions[nearest]) if nearest < len(positions) else ""
    return str(np.atleast_1d(epoch.eventtype)[nearest]), position
