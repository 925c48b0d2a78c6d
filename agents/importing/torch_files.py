"""Files of ``torch.save`` and TorchScript archives as trees of arrays, read without torch's unpickler.

A file is a zip with one pickle that describes the tree, and one member per storage; before torch 1.6, it is one stream.
Code in an archive is ignored.
"""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from policykd.agents.importing.legacy_torch_files import is_legacy_torch_file, read_legacy_tree
from policykd.errors import PolicyFileError
from policykd.storage import ZIP_DAMAGE
from policykd.symbolic_pickle import Name, PickleError, Record, read_symbolic_pickle

MOST_BYTES = 1_000_000_000
"""Largest file, and largest sum of its unpacked members, that is read."""

DAMAGE = (*ZIP_DAMAGE, IndexError, TypeError, MemoryError, PickleError)
"""Errors that a damaged zip, or the tree in it, can end in."""

_DTYPES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
_REBUILD = {"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"}
_WRAPPERS = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
_DEEPEST = 60


@dataclass(frozen=True)
class TorchFile:
    """Content of a file.

    Attributes:
        tree: numbers, texts, lists, dictionaries and arrays; objects are records.
        script: whether it is a TorchScript archive.
    """

    tree: Any
    script: bool


def is_torch_file(content: bytes) -> bool:
    """Return whether the bytes look like a file of ``torch.save`` or a TorchScript archive."""
    if is_legacy_torch_file(content):
        return True
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except DAMAGE:
        return False


def read_torch_file(content: bytes, what: str) -> TorchFile:
    """Return the tree of arrays in a file.

    Args:
        content: bytes of the file.
        what: what the file is, for messages.

    Raises:
        PolicyFileError: for a file that is damaged, too large, or with tensors that do not fit their storages.
    """
    try:
        if is_legacy_torch_file(content):
            return _read_legacy(content, what)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _read(archive, what)
    except PolicyFileError:
        raise
    except zipfile.BadZipFile:
        raise PolicyFileError(f"{what} is not a file of torch.save, or a damaged one") from None
    except DAMAGE as error:
        raise PolicyFileError(f"{what} cannot be read: {error}") from None


def _read(archive: zipfile.ZipFile, what: str) -> TorchFile:
    members = {info.filename: info for info in archive.infolist()}
    if sum(info.file_size for info in members.values()) > MOST_BYTES:
        raise PolicyFileError(f"{what} unpacks to more than {MOST_BYTES:,} bytes")
    root = next((name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")), None)
    if root is None:
        raise PolicyFileError(f"{what} holds no data.pkl; it is not a file of torch.save")

    contents: dict[str, bytes] = {}

    def storage(reference: Any) -> np.ndarray:
        if not (isinstance(reference, tuple) and len(reference) == 5 and isinstance(reference[1], Name)):
            raise PickleError("the file refers to something that is not a storage")
        kind = _dtype(reference[1])
        member = members.get(f"{root}data/{reference[2]}")
        if member is None:
            raise PickleError(f"the file lacks its storage {reference[2]}")
        if member.filename not in contents:  # many tensors can share a storage: it is read once
            contents[member.filename] = archive.read(member)
        raw = contents[member.filename]
        return np.frombuffer(raw, kind, count=len(raw) // kind.itemsize)

    tree = read_symbolic_pickle(archive.read(members[f"{root}data.pkl"]), storage)
    script = any(name.startswith(f"{root}code/") for name in members)
    numbers = 1000 + 4 * sum(info.file_size for name, info in members.items() if name.startswith(f"{root}data/"))
    return TorchFile(_Tensors(numbers).of(tree), script)


def _read_legacy(content: bytes, what: str) -> TorchFile:
    if len(content) > MOST_BYTES:
        raise PolicyFileError(f"{what} is larger than {MOST_BYTES:,} bytes")
    return TorchFile(_Tensors(1000 + 4 * len(content)).of(read_legacy_tree(content, _dtype)), script=False)


def _dtype(kind: Name) -> np.dtype[Any]:
    """Return the type of the numbers of a storage, by its class."""
    found = _DTYPES.get(kind.text.rpartition(".")[2])
    if found is None:
        raise PickleError(f"the file holds a {kind.text}, which is not read")
    return np.dtype(found)


class _Tensors:
    """Puts arrays in the place of the records of tensors.

    Args:
        numbers: how many numbers the tensors may hold together: storages may be shared, but not without end.
    """

    def __init__(self, numbers: int) -> None:
        self._numbers = numbers

    def of(self, value: Any, depth: int = 0) -> Any:
        """Return a tree with arrays."""
        if depth > _DEEPEST:
            raise PickleError(f"the file is nested deeper than {_DEEPEST} levels")
        if isinstance(value, Record):
            if value.name in _REBUILD:
                return self._tensor(*value.arguments[:4])
            if value.name in _WRAPPERS:
                return self.of(value.arguments[0], depth + 1)
            state, items = self.of(value.state, depth + 1), self.of(value.items, depth + 1)
            return Record(value.name, value.arguments, state, items, value.elements)
        if isinstance(value, dict):
            return {key: self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.of(item, depth + 1) for item in value)
        return value

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> np.ndarray:
        """Return a tensor as an array of its own."""
        shape, steps = tuple(size), tuple(stride)
        fits = isinstance(storage, np.ndarray) and len(shape) == len(steps)
        if not fits or not all(isinstance(n, int) and n >= 0 for n in (*shape, *steps, offset)):
            raise PickleError(f"a tensor has shape {shape} and strides {steps}")
        last = offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
        if 0 not in shape and last >= len(storage):
            raise PickleError(f"a tensor of shape {shape} does not fit its storage of {len(storage)} numbers")
        count = math.prod(shape)
        if count > len(storage):
            raise PickleError(f"a tensor of shape {shape} repeats the numbers of its storage")
        self._numbers -= count
        if self._numbers < 0:
            raise PickleError("its tensors unfold to far more numbers than the file holds")
        width = storage.itemsize
        view = np.lib.stride_tricks.as_strided(storage[offset:], shape, tuple(width * step for step in steps))
        return view.copy()
