"""Small pictures in class folders: ``train/<class>/*.jpg`` and ``test/<class>/*.jpg``.

It only reads: preparing, splitting and training happen elsewhere.
"""

from __future__ import annotations

import numpy as np

from policykd.kd.data.data_set import DataSet
from policykd.kd.data.files import DataFileError
from policykd.kd.data.pictures import decode_picture
from policykd.kd.data.samples import Samples
from policykd.kd.data.source import MEGABYTE, Source

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")


def read_image_folders(source: Source, about: str) -> Samples:
    """Read pictures of one size in class folders below ``train`` and, if it exists, ``test``.

    Raises:
        DataFileError: A part has no folder of a class, the classes of the parts differ, a picture is damaged, or
            sizes differ.
    """
    classes = source.folders("train")
    other = source.folders("test")
    if not classes or (other and other != classes):
        raise DataFileError(
            f"{source.root}: expected the same class folders in train and test, got {classes} and {other}"
        )
    names, labels, test = [], [], []
    for part in ("train", "test") if other else ("train",):
        for label, folder in enumerate(classes):
            own = source.names(f"{part}/{folder}", *_ENDINGS)
            names += own
            labels += [label] * len(own)
            test += [part == "test"] * len(own)
    pictures = [decode_picture(source.read(name, limit=16 * MEGABYTE), name) for name in names]
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        raise DataFileError(f"{source.root}: pictures have the sizes {sorted(shapes)[:3]}, expected a single one")
    return Samples(
        np.stack(pictures),
        np.array(labels, dtype=np.int64),
        tuple(classes),
        test=np.array(test) if other else None,
        about=about,
    )


def read(source: Source) -> Samples:
    """Read class folders."""
    return read_image_folders(source, "pictures in class folders")


DATA_SET = DataSet(
    name="image_folder",
    title="your own pictures of one size in class folders",
    origin="your own; --root is the folder with train/<class>/ and, optionally, test/<class>/",
    license="that of your pictures",
    size="any number of JPEG, PNG or BMP files",
    read=read,
)
