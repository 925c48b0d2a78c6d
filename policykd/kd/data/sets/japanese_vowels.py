"""JapaneseVowels: linear prediction coefficients of two vowels, spoken by nine men who are to be told apart.

It only reads: preparing, splitting and training happen elsewhere.
"""

from __future__ import annotations

from policykd.kd.data.data_set import DataSet
from policykd.kd.data.samples import Samples
from policykd.kd.data.sets._uea import AEON, read_uea
from policykd.kd.data.source import Source


def read(source: Source) -> Samples:
    """Read 640 utterances of 7 to 29 frames, each resampled to 29 frames."""
    about = "JapaneseVowels (UEA archive): 12 linear prediction coefficients per frame, resampled to 29 frames"
    return read_uea(source, "JapaneseVowels", length=29, about=about)


DATA_SET = DataSet(
    name="japanese_vowels",
    title="speech of nine speakers: which of them speaks",
    origin=AEON,
    license="BSD-3-Clause (aeon); UCI archive: CC BY 4.0",
    size="640 series, 12 channels x 29 frames; 1.1 MB",
    read=read,
    package="aeon",
)
