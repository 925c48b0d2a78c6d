"""What a data set is, and the registry of all of them; nothing here loads torch.

Every file in ``policykd/kd/data/sets`` without a leading underscore holds one as ``DATA_SET``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from policykd.errors import ConfigError
from policykd.kd.data.samples import Samples
from policykd.kd.data.source import Source, package_source
from policykd.names import Registry


@dataclass(frozen=True)
class DataSet:
    """A data set that users obtain themselves.

    Attributes:
        name: Key in the registry.
        title: What the data are.
        origin: Where to obtain them, and which files.
        license: License of the data as their distributor states it.
        size: Number and kind of samples, and bytes on disk.
        read: Reads the source into samples; the function draws nothing.
        groups: What a group is: person, speaker, recording; empty if the data set does not tell.
        package: Import name of the Python package that contains the data; empty for data in a folder.
        distribution: Name of that package on PyPI, if it differs.
        sha256: Checksum of the samples as policykd's published results used them; empty if there are none.
    """

    name: str
    title: str
    origin: str
    license: str
    size: str
    read: Callable[[Source], Samples]
    groups: str = ""
    package: str = ""
    distribution: str = ""
    sha256: str = ""

    def source(self, root: str | Path | None = None) -> Source:
        """Return the files of the data set.

        Args:
            root: Folder, wheel or zip archive; None for the installed package.

        Raises:
            ConfigError: The data set is not part of a package and no root is given.
            MissingDependencyError: The package is not installed.
            DataFileError: The root does not exist.
        """
        if self.package:
            return package_source(self.package, self.distribution or self.package, root)
        if root is None:
            raise ConfigError(f"data set {self.name} needs --root, the folder of your copy: {self.origin}")
        return Source(root)

    def load(self, root: str | Path | None = None) -> Samples:
        """Read the data set; see :meth:`source` for `root` and errors.

        Raises:
            DataFileError: A file is missing, damaged or not of the expected form.
        """
        return self.read(self.source(root))


DATA_SETS: Registry[DataSet] = Registry.of_folder("data set", "policykd.kd.data.sets", "DATA_SET", DataSet)
"""The data sets by name."""
