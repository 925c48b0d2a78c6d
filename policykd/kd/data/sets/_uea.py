"""What the data sets of the UEA archive inside aeon have in common.

It only reads: preparing, splitting and training happen elsewhere.
"""

from __future__ import annotations

import numpy as np

from policykd.kd.data.samples import Samples
from policykd.kd.data.source import Source
from policykd.kd.data.ts_files import read_ts
from policykd.kd.data.windows import resample

AEON = "PyPI package aeon, inside the wheel; `pip download --no-deps aeon`, then --root aeon-<version>-py3-none-any.whl"


def read_uea(
    source: Source, name: str, *, length: int, rate: float = 0.0, channels: tuple[str, ...] = (), about: str
) -> Samples:
    """Read training and test file; series of another length are resampled to `length` steps."""
    parts = [read_ts(source, f"aeon/datasets/data/{name}/{name}_{part}.ts") for part in ("TRAIN", "TEST")]
    series = [one for part in parts for one in part[0]]
    valid = parts[0][2]
    return Samples(
        np.stack([one if one.shape[1] == length else resample(one, length) for one in series]),
        np.array([valid.index(label) for part in parts for label in part[1]], dtype=np.int64),
        valid,
        test=np.arange(len(series)) >= len(parts[0][0]),
        channels=channels,
        rate=rate,
        about=about,
    )
