"""Search of folders for policy files, which are known by the hash of their weights.

It reads manifests, follows no links, and writes nothing.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from policykd.agents.files.container import MANIFEST, MAX_WEIGHTS_BYTES, WEIGHTS
from policykd.agents.files.manifest import Manifest
from policykd.agents.files.policy_file import read_manifest
from policykd.errors import OutputError, PolicyFileError
from policykd.storage import ZIP_DAMAGE

MOST_FOLDERS = 20_000
"""Number of folders after which a search ends, so that one around a home folder ends."""

DEEPEST = 8
"""Number of levels of folders below a place that are searched."""


@dataclass(frozen=True)
class Found:
    """A policy file.

    Attributes:
        path: the policy folder or ``.zip``.
        manifest: its manifest.
    """

    path: Path
    manifest: Manifest

    @property
    def key(self) -> str:
        """Hash of the manifest: files of one key are copies of each other."""
        return self.manifest.content_sha256


class Library:
    """Policy files by the hash of their weights.

    Attributes:
        searched: places that were searched.
        unfinished: places whose search ended early, after :data:`MOST_FOLDERS` folders.
        damaged: files that look like policies and cannot be read, with the reason.
    """

    def __init__(self) -> None:
        self._by_weights: dict[str, list[Found]] = {}
        self.searched: list[Path] = []
        self.unfinished: list[Path] = []
        self.damaged: dict[Path, str] = {}

    def put(self, found: Found) -> None:
        """Add one file; of several copies the first one counts."""
        known = self._by_weights.setdefault(found.manifest.weights_sha256, [])
        if found.key not in {other.key for other in known}:
            known.append(found)

    def search(self, place: Path) -> None:
        """Add all policy files below a folder.

        Raises:
            OutputError: if the folder does not exist.
        """
        if not place.is_dir():
            raise OutputError(f"the folder {place} does not exist; name one that holds policies")
        if place in self.searched:
            return
        self.searched.append(place)
        for path in self._candidates(place):
            try:
                self.put(Found(path, read_manifest(path)))
            except PolicyFileError as error:
                self.damaged[path] = str(error)

    def with_weights(self, weights_sha256: str) -> Sequence[Found]:
        """Return the files with these weights, in the order in which they were found."""
        return tuple(self._by_weights.get(weights_sha256, ()))

    def _candidates(self, place: Path) -> Iterator[Path]:
        """Yield what looks like a policy file, in an order that does not depend on the machine."""
        root, folders = len(place.parts), 0
        for name, below, files in os.walk(place):
            folder = Path(name)
            folders += 1
            if folders > MOST_FOLDERS:
                self.unfinished.append(place)
                return
            if {MANIFEST, WEIGHTS} <= set(files):
                below.clear()
                yield folder
                continue
            deep = len(folder.parts) - root >= DEEPEST
            below[:] = [] if deep else sorted(entry for entry in below if not entry.startswith("."))
            yield from (folder / file for file in sorted(files) if _is_zipped_policy(folder / file))


def _is_zipped_policy(path: Path) -> bool:
    """Return whether a file is a zip with the two parts of a policy."""
    if path.suffix != ".zip":
        return False
    try:
        if not path.is_file() or path.stat().st_size > MAX_WEIGHTS_BYTES:
            return False
        with zipfile.ZipFile(path) as archive:
            names = sorted(PurePosixPath(m.filename).name for m in archive.infolist() if not m.is_dir())
    except ZIP_DAMAGE:
        return False
    return names == sorted([MANIFEST, WEIGHTS])
