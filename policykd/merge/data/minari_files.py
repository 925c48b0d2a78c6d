"""Sizes in the files of a Minari dataset, compared with the files themselves before anything is allocated.

It reads headers, and no data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from policykd.errors import DatasetError
from policykd.parsing import parse_json
from policykd.plain import shown

_LARGEST_RATIO = 1100  # numbers that are all alike are compressed at most a thousandfold
_MOST_BYTES = 64_000_000  # of the description


def check_sizes(folder: Path) -> None:
    """Raise DatasetError unless a dataset's description and arrays fit its files.

    Args:
        folder: folder of the dataset, which holds ``data``.
    """
    data = folder / "data"
    description = data / "metadata.json"
    if description.stat().st_size > _MOST_BYTES:
        raise DatasetError(f"{description} has more than {_MOST_BYTES:,} bytes")
    content = parse_json(description.read_bytes(), str(description), DatasetError)
    episodes = content.get("total_episodes") if isinstance(content, dict) else None
    held = _held(data)
    if isinstance(episodes, bool) or not isinstance(episodes, int) or not 0 <= episodes <= held:
        raise DatasetError(f"{description} names {shown(episodes)} episodes; the dataset holds {held}")


def _held(data: Path) -> int:
    """Return the number of episodes in a folder, one file of HDF5 or one folder of Arrow per episode."""
    path = data / "main_data.hdf5"
    if not path.exists():
        return sum(entry.is_dir() for entry in data.iterdir())
    import h5py

    with h5py.File(path, "r") as file:
        _check_arrays(file, path)
        return sum(name.startswith("episode_") for name in file)


def _check_arrays(file: Any, path: Path) -> None:
    """Raise DatasetError for arrays that are far larger than their file, and for what is not a tree of arrays."""
    import h5py

    room, objects, names = _LARGEST_RATIO * path.stat().st_size, 0, 0

    def count_names(group: Any) -> None:
        nonlocal names
        for name in group:
            names += 1
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise DatasetError(
                    f"{path}: {group.name}/{name} links to another place; a dataset of Minari has no links"
                )

    def visit(name: str, node: Any) -> None:
        nonlocal room, objects
        objects += 1
        if isinstance(node, h5py.Group):
            count_names(node)
        if isinstance(node, h5py.Dataset):
            room -= node.size * node.dtype.itemsize
            if room < 0:
                raise DatasetError(f"{path}: {name} has shape {node.shape}, which does not fit a file of its size")

    count_names(file)
    file.visititems(visit)  # every object once, by whatever name it is found first
    if names != objects:
        raise DatasetError(f"{path}: an object has several names; in a dataset of Minari each has one")
