"""EMO-DB, the Berlin database of emotional speech (Burkhardt et al. 2005): ten actors, seven emotions.

It only reads: preparing, splitting and training happen elsewhere.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from policykd.kd.data.audio import Frames, sound_samples
from policykd.kd.data.data_set import DataSet
from policykd.kd.data.files import DataFileError
from policykd.kd.data.samples import Samples
from policykd.kd.data.source import Source

FRAMES = Frames(seconds=3.0)
EMOTIONS = {
    **{"W": "anger", "L": "boredom", "E": "disgust", "A": "fear"},
    **{"F": "happiness", "T": "sadness", "N": "neutral"},
}
"""Emotion by the sixth letter of a file name (the first letter of the German word)."""


def _emotion(name: str) -> str:
    stem = PurePosixPath(name).stem
    if len(stem) < 6 or not stem[:2].isdigit() or stem[5] not in EMOTIONS:
        raise DataFileError(f"{name} is not called {{speaker:2}}{{text:3}}{{emotion:1}}{{version}}.wav")
    return EMOTIONS[stem[5]]


def read(source: Source) -> Samples:
    """Read ``wav/{speaker:2}{text:3}{emotion:1}{version}.wav``; the group is the speaker."""
    return sound_samples(
        source,
        source.names("wav", ".wav"),
        FRAMES,
        label=_emotion,
        group=lambda name: f"speaker {PurePosixPath(name).stem[:2]}",
        about="EMO-DB",
    )


DATA_SET = DataSet(
    name="emodb",
    title="emotional German speech of ten actors, log-mel frames",
    origin="emodb.bilderbar.info; --root is the folder that contains wav/",
    license="not stated: use your own copy and do not redistribute it",
    size="535 recordings, 16 or 22.05 kHz; 47 MB",
    read=read,
    groups="speaker",
)
