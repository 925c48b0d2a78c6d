"""Free Spoken Digit Dataset: six speakers say the ten digits, fifty times each.

It only reads: preparing, splitting and training happen elsewhere.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from policykd.kd.data.audio import Frames, sound_samples
from policykd.kd.data.data_set import DataSet
from policykd.kd.data.files import DataFileError
from policykd.kd.data.samples import Samples
from policykd.kd.data.source import Source

FRAMES = Frames(seconds=0.8)


def _parts(name: str) -> tuple[str, str]:
    pieces = PurePosixPath(name).stem.split("_")
    if len(pieces) != 3 or pieces[0] not in set("0123456789") or not pieces[1]:
        raise DataFileError(f"{name} is not called {{digit}}_{{speaker}}_{{index}}.wav")
    return pieces[0], pieces[1]


def read(source: Source) -> Samples:
    """Read ``recordings/{digit}_{speaker}_{index}.wav``; the group is the speaker."""
    return sound_samples(
        source,
        source.names("recordings", ".wav"),
        FRAMES,
        label=lambda name: _parts(name)[0],
        group=lambda name: _parts(name)[1],
        about="Free Spoken Digit Dataset",
    )


DATA_SET = DataSet(
    name="spoken_digits",
    title="spoken digits of six speakers, log-mel frames",
    origin="github.com/Jakobovski/free-spoken-digit-dataset; --root is the folder that contains recordings/",
    license="CC BY-SA 4.0",
    size="3,000 recordings, 8 kHz; 21 MB",
    read=read,
    groups="speaker",
)
