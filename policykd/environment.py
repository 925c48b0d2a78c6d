"""The software and the machine that results were made with, for files and pages.

It reads package metadata and the processor's name, and imports none of the packages.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PROCESSORS = Path("/proc/cpuinfo")


def environment(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python and of packages, the system and the processor, by name.

    Args:
        packages: names of distributions; those that are not installed are left out.
    """
    found = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
    }
    numbers = {name: package_version(name) for name in packages}
    return found | {name: number for name, number in numbers.items() if number is not None}


def package_version(distribution: str) -> str | None:
    """Return the version of an installed distribution; None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:  # an optional part, or a source tree that was never installed
        return None


def _processor() -> str:
    """Return the processor's name where the system tells it, otherwise its architecture."""
    try:
        lines = _PROCESSORS.read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
