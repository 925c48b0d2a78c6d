"""Files of other libraries where a policy file is expected: they are imported once, with the defaults of an import.

What these defaults lack, a user gives to ``policykd import``; every error says so.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from policykd.agents.files.policy_file import FOREIGN_SUFFIXES, load_policy
from policykd.agents.importing.files import read_bytes
from policykd.agents.importing.formats import policy_path
from policykd.agents.importing.importer import ImportReport, import_policy
from policykd.agents.importing.stable_baselines3 import is_sb3_zip
from policykd.errors import ConfigError, PolicykdError


def is_foreign(path: Path) -> bool:
    """Return whether a path is a policy of another library, or a folder with one zip of stable-baselines3."""
    if path.is_dir():
        zips = [] if (path / "manifest.json").exists() else list(path.glob("*.zip"))
        return len(zips) == 1 and is_foreign(zips[0])
    if path.suffix in FOREIGN_SUFFIXES:
        return path.is_file()
    return path.suffix == ".zip" and path.is_file() and is_sb3_zip(read_bytes(path))


def import_once(path: Path, out: Path) -> ImportReport | None:
    """Import a policy of another library, unless it was imported before.

    Args:
        path: the file.
        out: the policy file to write.

    Returns:
        The report of the import; None if ``out`` is the import of this file.

    Raises:
        ConfigError: for a file that cannot be imported with the defaults, or if ``out`` is another file's import.
        PolicyFileError: if ``out`` is damaged.
    """
    if out.exists():
        known = load_policy(out).manifest.config.get("sha256")
        if known != hashlib.sha256(read_bytes(policy_path(path))).hexdigest():
            raise ConfigError(f"{out} is not an import of {path}; choose another --out")
        return None
    try:
        return import_policy(path, out)
    except PolicykdError as error:
        raise ConfigError(
            f"cannot import {path}: {error}; import it first, with what it needs: policykd import {path} --out EXPERT"
        ) from error
