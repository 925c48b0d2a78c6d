"""Whether the installed MuJoCo is one that simulates policykd's robots; environments of gymnasium need none.

It reads the metadata of installed packages and loads nothing.
"""

from __future__ import annotations

import functools
from importlib import metadata

from policykd.errors import MissingDependencyError

FIRST, NEXT = (4, 0), (4, 1)
"""First version of MuJoCo that simulates robots here, and the first one that has not been tried."""


@functools.cache  # parsing a package's metadata takes milliseconds, and every environment asks
def installed_version() -> str | None:
    """Return the version of the installed MuJoCo, None without one."""
    try:
        return metadata.version("mujoco")
    except metadata.PackageNotFoundError:
        return None


def require_simulator() -> None:
    """Raise unless the installed MuJoCo simulates robots.

    Raises:
        MissingDependencyError: without MuJoCo, or with another version, naming both and the cure.
    """
    version = installed_version()
    if version is None:
        raise MissingDependencyError(
            "simulating a robot needs the extra: pip install 'policykd[sim]'; environments of gymnasium work without"
        )
    found = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if not FIRST <= found < NEXT:
        raise MissingDependencyError(
            f"simulating a robot needs mujoco {FIRST[0]}.{FIRST[1]}, and {version} is installed: "
            "pip install 'policykd[sim]' in a virtual environment of its own; gymnasium's work with any version"
        )
