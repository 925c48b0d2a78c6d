"""BasicMotions: accelerometer and gyroscope of a smartwatch, four activities.

It only reads: preparing, splitting and training happen elsewhere.
"""

from __future__ import annotations

from policykd.kd.data.data_set import DataSet
from policykd.kd.data.samples import Samples
from policykd.kd.data.sets._uea import AEON, read_uea
from policykd.kd.data.source import Source

CHANNELS = tuple(f"{sensor}_{axis}" for sensor in ("acceleration", "rotation") for axis in "xyz")


def read(source: Source) -> Samples:
    """Read 80 recordings of ten seconds."""
    about = "BasicMotions (UEA archive): 10 s of smartwatch acceleration and rotation; its own training and test part"
    return read_uea(source, "BasicMotions", length=100, rate=10.0, channels=CHANNELS, about=about)


DATA_SET = DataSet(
    name="basic_motions",
    title="smartwatch acceleration and rotation: standing, running, walking, badminton",
    origin=AEON,
    license="BSD-3-Clause (aeon)",
    size="80 series, 6 channels x 100 steps; 0.5 MB",
    read=read,
    package="aeon",
    sha256="312e275a1ffb762af70898f057e2c5fd3deb4c88518822d3cfbebbd0f50e5a6c",
)
