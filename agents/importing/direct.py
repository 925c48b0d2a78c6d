"""Files of other libraries where a policy file is expected: they are imported once, with the defaults of an import.

What these defaults lack, a user gives to ``policykd import``; every error says so.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from policykd.agents.files.policy_file import LoadedPolicy, load_policy
from policykd.agents.importing.files import read_bytes
from policykd.agents.importing.formats import policy_path
from policykd.agents.importing.importer import ImportReport, import_policy
from policykd.agents.importing.stable_baselines3 import is_sb3_zip
from policykd.errors import ConfigError, PolicykdError

_SUFFIXES = (".onnx", ".pt", ".pth", ".jit", ".cleanrl_model")


def is_foreign(path: Path) -> bool:
    """Return whether a path is a policy of another library, or a folder with one zip of stable-baselines3."""
    if path.is_dir():
        zips = [] if (path / "manifest.json").exists() else list(path.glob("*.zip"))
        return len(zips) == 1 and is_foreign(zips[0])
    if path.suffix in _SUFFIXES:
        return path.is_file()
    return path.suffix == ".zip" and path.is_file() and is_sb3_zip(read_bytes(path))


def load_or_import(path: Path, out: Path) -> tuple[LoadedPolicy, ImportReport | None]:
    """Return a policy; one of another library is imported into ``out``, unless it was before.

    Args:
        path: a policy file, or a file of another library.
        out: the policy file to write for the latter.

    Returns:
        The policy, and the report of the import; None without one.

    Raises:
        PolicyFileError: as :func:`policykd.agents.files.policy_file.load_policy`.
        ConfigError: for a file that cannot be imported with the defaults, or if ``out`` is another file's import.
    """
    if not is_foreign(path):
        return load_policy(path), None
    if out.exists():
        loaded = load_policy(out)
        if loaded.manifest.config.get("sha256") != hashlib.sha256(read_bytes(policy_path(path))).hexdigest():
            raise ConfigError(f"{out} is not an import of {path}; choose another --out")
        return loaded, None
    try:
        report = import_policy(path, out)
    except PolicykdError as error:
        raise ConfigError(
            f"cannot import {path}: {error}; import it first, with what it needs: policykd import {path} --out EXPERT"
        ) from error
    return load_policy(out), report
