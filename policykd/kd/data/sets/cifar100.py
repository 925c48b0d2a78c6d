"""CIFAR-100 (Krizhevsky 2009) with fine labels: the binary version, the python version, or class folders.

It only reads: preparing, splitting and training happen elsewhere.
"""

from __future__ import annotations

from policykd.kd.data.data_set import DataSet
from policykd.kd.data.samples import Samples
from policykd.kd.data.sets._cifar import read_batches
from policykd.kd.data.sets.image_folder import read_image_folders
from policykd.kd.data.source import Source


def read(source: Source) -> Samples:
    """Read class folders if there are any, else the batch files."""
    if source.folders("train"):
        return read_image_folders(source, "CIFAR-100 from pictures in class folders")
    return read_batches(source, 100, tuple(f"fine label {number}" for number in range(100)))


DATA_SET = DataSet(
    name="cifar100",
    title="32 x 32 color photographs in a hundred classes",
    origin="www.cs.toronto.edu/~kriz/cifar.html, binary or python version, or a copy as train/<class>/*.jpg",
    license="not stated: use your own copy and do not redistribute it",
    size="60,000 images; 170 MB",
    read=read,
)
