"""ESC-50 (Piczak 2015) and data in its layout: sounds in ``audio/`` and a table of labels and folds.

It only reads: preparing, splitting and training happen elsewhere.
"""

from __future__ import annotations

import csv
import io

from policykd.kd.data.audio import Frames, sound_samples
from policykd.kd.data.data_set import DataSet
from policykd.kd.data.files import DataFileError
from policykd.kd.data.samples import Samples
from policykd.kd.data.source import MEGABYTE, Source

FRAMES = Frames(seconds=5.0, mels=64)
_TABLE = "meta/esc50.csv"


def read(source: Source) -> Samples:
    """Read ``meta/esc50.csv`` (filename, fold, category) and ``audio/``; the group is the fold.

    Clips of one recording are in one fold, so folds are the groups to hold out.
    """
    text = source.read(_TABLE, limit=16 * MEGABYTE).decode("utf-8", errors="replace")
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows or not {"filename", "fold", "category"} <= rows[0].keys():
        raise DataFileError(f"{source.root}: {_TABLE} needs the columns filename, fold and category")
    if any(not row["filename"] or "/" in row["filename"] or not row["fold"] or not row["category"] for row in rows):
        raise DataFileError(f"{source.root}: {_TABLE} has a row without file name, fold or category, or with a folder")
    table = {f"audio/{row['filename']}": row for row in rows}
    return sound_samples(
        source,
        list(table),
        FRAMES,
        label=lambda name: table[name]["category"],
        group=lambda name: f"fold {table[name]['fold']}",
        about="ESC-50",
    )


DATA_SET = DataSet(
    name="esc50",
    title="environmental sounds, log-mel frames",
    origin="github.com/karolpiczak/ESC-50, or data in its layout; --root is the folder with audio/ and meta/",
    license="CC BY-NC 3.0",
    size="2,000 clips of 5 s in 50 classes, 44.1 kHz; 840 MB",
    read=read,
    groups="fold",
)
