"""Files of ``torch.save`` before torch 1.6, which are not zips: pickles one after the other, then raw storages.

It finds the parts of such a file; what the tree of tensors means is read as for a zip.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from policykd.symbolic_pickle import Name, PickleError, read_symbolic_pickle

_BEGIN = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""A pickle of torch's magic number, with which such a file begins."""

_PARTS = 5
"""Pickles of a file: magic number, version, system, the tree, and the storages' keys in the order of their data."""


def is_legacy_torch_file(content: bytes) -> bool:
    """Return whether the bytes begin as a file of ``torch.save`` before torch 1.6."""
    return content.startswith(_BEGIN)


def read_legacy_tree(content: bytes, dtype_of: Callable[[Any], np.dtype[Any]]) -> Any:
    """Return the tree that a file describes, with records of tensors whose storages are arrays.

    Args:
        content: bytes of the file.
        dtype_of: type of the numbers of a storage, by its class as a name; raises PickleError for one that is not read.

    Raises:
        PickleError: for a damaged file, or one whose storages are not in it.
    """
    ends = _ends(content)
    tree = content[ends[2] : ends[3]]
    keys = read_symbolic_pickle(content[ends[3] : ends[4]])
    types: dict[str, np.dtype[Any]] = {}

    def note(reference: Any) -> np.ndarray:
        key, kind = _storage(reference)
        types[key] = dtype_of(kind)
        return np.empty(0, types[key])

    read_symbolic_pickle(tree, note)
    storages = _storages(content, ends[4], keys, types)
    return read_symbolic_pickle(tree, lambda reference: storages[_storage(reference)[0]])


def _ends(content: bytes) -> list[int]:
    """Return the offset after each pickle."""
    stream, ends = io.BytesIO(content), list[int]()
    try:
        for _ in range(_PARTS):
            for _ in pickletools.genops(stream):
                pass
            ends.append(stream.tell())
    except ValueError as error:
        raise PickleError(f"the pickle is damaged: {error}") from None
    return ends


def _storage(reference: Any) -> tuple[str, Name]:
    """Return key and class of the storage that a persistent id refers to."""
    known = isinstance(reference, tuple) and len(reference) == 6 and reference[0] == "storage"
    if not (known and isinstance(reference[1], Name) and isinstance(reference[2], str)):
        raise PickleError("the file refers to something that is not a storage")
    if reference[5] is not None:
        raise PickleError("the file holds a view of a storage, which is not read")
    return reference[2], reference[1]


def _storages(content: bytes, offset: int, keys: Any, types: dict[str, np.dtype[Any]]) -> dict[str, np.ndarray]:
    """Return the storages by their keys; each is its number of elements, eight bytes, and the elements."""
    if not (isinstance(keys, list) and set(keys) == set(types) and len(keys) == len(types)):
        raise PickleError("the file does not hold the storages that its tensors refer to")
    found = {}
    for key in keys:
        count = int.from_bytes(content[offset : offset + 8], "little", signed=True)
        begin, end = offset + 8, offset + 8 + count * types[key].itemsize
        if count < 0 or end > len(content):
            raise PickleError(f"storage {key} of {count} numbers is not in the file")
        found[key] = np.frombuffer(content, types[key], count=count, offset=begin)
        offset = end
    return found
