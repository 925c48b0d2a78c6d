"""Samples of a data set with labels and groups, checked, and the file that stores them.

A prepared file is an ``.npz`` without objects; a checksum of all arrays is stored with them and compared at reading.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from policykd.kd.data.arrays import read_npz
from policykd.kd.data.files import DataFileError
from policykd.storage import write_bytes

_FORMAT = "policykd-samples-1"


@dataclass(frozen=True)
class Samples:
    """Samples of one data set.

    Attributes:
        x: Inputs ``(N, ...)``: float32, or bytes for images.
        y: Labels ``(N,)`` in int64.
        classes: Name of every class; labels count them.
        groups: Group of every sample ``(N,)`` in int64: person, speaker or recording. Samples of one group are alike,
            so splits must not part them. None if the data set does not tell.
        group_names: Name of every group.
        test: Whether a sample is in the data set's own test part ``(N,)``; None if it has none.
        channels: Names of the channels of ``x``; empty if they have none.
        rate: Samples or frames per second of the last axis; 0 for images and vectors.
        about: One sentence on what was prepared, and how.

    Raises:
        DataFileError: Arrays do not fit one another, a label is out of range, or a value is not finite.
    """

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    groups: np.ndarray | None = None
    group_names: tuple[str, ...] = ()
    test: np.ndarray | None = None
    channels: tuple[str, ...] = ()
    rate: float = 0.0
    about: str = ""

    def __post_init__(self) -> None:
        count = len(self.x)
        if self.x.dtype not in (np.float32, np.uint8) or self.x.ndim not in (2, 3, 4) or count == 0:
            raise DataFileError(f"inputs must be float32 or uint8 (N, ...), got {self.x.dtype} {self.x.shape}")
        if not np.isfinite(self.x).all():
            raise DataFileError("inputs hold values that are not finite")
        self._check_index("labels", self.y, count, len(self.classes))
        if self.groups is not None:
            self._check_index("groups", self.groups, count, len(self.group_names))
        if self.test is not None and (self.test.shape != (count,) or self.test.dtype != np.bool_):
            raise DataFileError(f"test must be bool ({count},), got {self.test.dtype} {self.test.shape}")
        if self.channels and len(self.channels) != self.x.shape[1]:
            raise DataFileError(f"{len(self.channels)} names for {self.x.shape[1]} channels")

    @staticmethod
    def _check_index(what: str, values: np.ndarray, count: int, names: int) -> None:
        if values.shape != (count,) or values.dtype != np.int64:
            raise DataFileError(f"{what} must be int64 ({count},), got {values.dtype} {values.shape}")
        if int(values.min()) < 0 or int(values.max()) >= names:
            span = f"{int(values.min())} to {int(values.max())}"
            raise DataFileError(f"{what} are {span}, expected 0 to {names - 1}: one per name")

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as arrays without objects, by name."""
        arrays = {"x": self.x, "y": self.y, "classes": np.array(self.classes), "rate": np.array(float(self.rate))}
        if self.groups is not None:
            arrays |= {"groups": self.groups, "group_names": np.array(self.group_names)}
        if self.test is not None:
            arrays["test"] = self.test
        if self.channels:
            arrays["channels"] = np.array(self.channels)
        return arrays | {"about": np.array(self.about)}

    @property
    def summary(self) -> str:
        """Number, shape, classes and groups in a line."""
        shape = " x ".join(map(str, self.x.shape[1:]))
        groups = "" if self.groups is None else f", {len(self.group_names)} groups"
        test = "" if self.test is None else f", {int(self.test.sum())} of them its own test part"
        return f"{len(self.x)} samples {shape}, {len(self.classes)} classes{groups}{test}"

    @property
    def checksum(self) -> str:
        """SHA-256 of all arrays, with their names, types and shapes."""
        return _checksum(self.arrays())


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {arrays[name].shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write_samples(path: Path, samples: Samples) -> None:
    """Write a prepared file; the same samples give the same bytes."""
    arrays = samples.arrays()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, format=np.array(_FORMAT), sha256=np.array(_checksum(arrays)), **arrays)  # type: ignore[arg-type]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())


def read_samples(path: str | Path) -> Samples:
    """Read a prepared file and compare its checksum.

    Raises:
        DataFileError: The file is missing, damaged, changed, or was not written by :func:`write_samples`.
    """
    arrays = read_npz(path)
    if _text(arrays.pop("format", None)) != _FORMAT:
        raise DataFileError(f"{path} was not prepared by `policykd kd data`; use the task npz for other archives")
    stored = _text(arrays.pop("sha256", None))
    if stored != _checksum(arrays):
        raise DataFileError(f"{path} was changed after it was prepared: its checksum differs; prepare it again")
    try:
        return Samples(
            arrays["x"],
            arrays["y"],
            tuple(map(str, arrays["classes"])),
            arrays.get("groups"),
            tuple(map(str, arrays.get("group_names", ()))),
            arrays.get("test"),
            tuple(map(str, arrays.get("channels", ()))),
            float(arrays["rate"]),
            _text(arrays["about"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataFileError(f"{path}: {error}") from None


def _text(value: np.ndarray | None) -> str:
    return str(value) if value is not None and value.shape == () else ""
