"""``policykd kd data``: list the data sets, or prepare some of them into checked files.

It parses options and prints; the work is done by the packages it calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from policykd.cli.output import say_where
from policykd.errors import ConfigError


@dataclass(frozen=True)
class KdData:
    """List the data sets with origin, license and size; with names, prepare them for `--task prepared`."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Data sets such as smartwatch; without names, all are listed."""
    root: Path | None = None
    """Folder, wheel or zip archive with your copy of the data; default the installed package. Nothing is downloaded."""
    out: Path = Path("data")
    """Folder for the prepared files, one <name>.npz per data set."""

    def run(self, console: Console) -> None:
        """Print the list, or read, check and write the named data sets.

        Raises:
            PolicykdError: for an unknown name, a missing package or folder, or a damaged file.
        """
        from policykd.kd.data.data_set import DATA_SETS

        if not self.names:
            console.print(_listed())
            console.print("prepare one with: policykd kd data <name> [--root <folder or wheel>]", highlight=False)
            return
        chosen = [DATA_SETS.resolve(name) for name in dict.fromkeys(self.names)]
        if self.root is not None and len(chosen) > 1:
            raise ConfigError("--root names the copy of one data set; prepare several of them one by one")
        from policykd.kd.data.samples import write_samples

        for data_set in chosen:
            samples = data_set.load(self.root)
            path = self.out / f"{data_set.name}.npz"
            write_samples(path, samples)
            console.print(Text.assemble((data_set.name, "bold"), f": {samples.summary}"), highlight=False)
            console.print(f"license: {data_set.license}", highlight=False)
            if data_set.sha256:
                same = "equal to" if samples.checksum == data_set.sha256 else "DIFFERENT from"
                console.print(f"{same} the data of the published results", highlight=False)
            say_where(console, path)


def _listed() -> Table:
    """Return the table of all data sets."""
    from policykd.kd.data.data_set import DATA_SETS

    table = Table("name", "data", "size", "groups", "origin", "license", title="data sets")
    for data_set in DATA_SETS.values():
        table.add_row(data_set.name, data_set.title, data_set.size, data_set.groups, data_set.origin, data_set.license)
    return table
