"""Files of the UEA and UCR time series archives (``.ts``): a header, then one series per line.

It reads and changes arrays only; it knows nothing of networks or training.
"""

from __future__ import annotations

import numpy as np

from policykd.kd.data.files import DataFileError
from policykd.kd.data.source import Source


def read_ts(source: Source, name: str) -> tuple[list[np.ndarray], list[str], tuple[str, ...]]:
    """Read a ``.ts`` file without time stamps and missing values.

    Returns:
        Series ``(C, T_i)``, the label of each, and the valid labels of the header.

    Raises:
        DataFileError: The file is missing or has another form.
    """
    try:
        lines = source.read(name).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataFileError(f"{source.root}: {name} is not text: {error}") from None
    header = [line.split() for line in lines if line.startswith("@")]
    valid = next((tuple(words[2:]) for words in header if words[0].lower() == "@classlabel"), ())
    data = [line for line in lines if line.strip() and not line.startswith(("@", "#"))]
    if not valid or not data:
        raise DataFileError(f"{source.root}: {name} needs a line '@classLabel true <labels>' and series")
    series, labels = [], []
    for number, line in enumerate(data, 1):
        *channels, label = line.strip().split(":")
        series.append(_channels(channels, f"{source.root}: series {number} of {name}"))
        if label not in valid:
            raise DataFileError(f"{source.root}: series {number} of {name} has label {label!r}, expected {valid}")
        labels.append(label)
    return series, labels, valid


def _channels(texts: list[str], where: str) -> np.ndarray:
    try:
        channels = [np.array(text.split(","), dtype=np.float32) for text in texts]
        stacked = np.stack(channels)
    except ValueError as error:
        raise DataFileError(f"{where} is damaged: {error}") from None
    if not np.isfinite(stacked).all():
        raise DataFileError(f"{where} has missing or infinite values")
    return stacked
