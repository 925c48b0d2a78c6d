"""Patches of the photographs that come with scikit-image: which photograph is a patch from?

It only reads: preparing, splitting and training happen elsewhere.
"""

from __future__ import annotations

import numpy as np

from policykd.kd.data.data_set import DataSet
from policykd.kd.data.pictures import decode_picture
from policykd.kd.data.samples import Samples
from policykd.kd.data.source import Source

PHOTOGRAPHS = {
    **{"astronaut": "png", "brick": "png", "chelsea": "png", "coffee": "png", "coins": "png", "grass": "png"},
    **{"gravel": "png", "hubble_deep_field": "jpg", "ihc": "png", "motorcycle_left": "png", "retina": "jpg"},
    **{"rocket": "jpg"},
}
"""Name of a photograph and the ending of its file."""
SIDE, ROWS = 32, 8


def read(source: Source) -> Samples:
    """Read twelve photographs in patches of 32 x 32 on a grid; the group is a horizontal band of a photograph.

    Patches do not overlap, but neighbors are alike: bands are the groups to hold out.
    """
    patches, labels, groups = [], [], []
    for number, (name, ending) in enumerate(PHOTOGRAPHS.items()):
        picture = decode_picture(source.read(f"skimage/data/{name}.{ending}"), name)
        rows, columns = picture.shape[1] // SIDE, picture.shape[2] // SIDE
        grid = picture[:, : rows * SIDE, : columns * SIDE].reshape(3, rows, SIDE, columns, SIDE)
        patches.append(grid.transpose(1, 3, 0, 2, 4).reshape(-1, 3, SIDE, SIDE))
        labels.append(np.full(rows * columns, number))
        groups.append(np.repeat(np.arange(rows) * ROWS // rows, columns))
    return Samples(
        np.concatenate(patches),
        np.concatenate(labels).astype(np.int64),
        tuple(PHOTOGRAPHS),
        np.concatenate(groups).astype(np.int64),
        tuple(f"band {number}" for number in range(ROWS)),
        about="photographs of scikit-image in patches of 32 x 32; group k is band k of every photograph",
    )


DATA_SET = DataSet(
    name="photographs",
    title="patches of twelve photographs",
    origin="PyPI package scikit-image, inside the wheel",
    license="BSD-3-Clause (scikit-image); the photographs: public domain or CC0, see its documentation",
    size="5,108 patches 3 x 32 x 32; 5 MB",
    read=read,
    groups="band of the photographs",
    package="skimage",
    distribution="scikit-image",
)
