"""Formats of foreign policy files, told apart by content, and the one function that reads any of them.

To add a format, write a module with ``matches`` and ``read`` and list it in :data:`TREES`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from policykd.agents.importing import other_libraries, rsl_rl, torchscript
from policykd.agents.importing.files import read_bytes
from policykd.agents.importing.foreign_policy import ForeignPolicy, check_sizes
from policykd.agents.importing.onnx_files import read_onnx
from policykd.agents.importing.options import ImportOptions
from policykd.agents.importing.stable_baselines3 import is_sb3_zip, read_sb3
from policykd.agents.importing.torch_files import is_torch_file, read_torch_file
from policykd.errors import PolicyFileError


class TreeFormat(NamedTuple):
    """A format whose files are trees of arrays.

    Attributes:
        name: library, for people.
        matches: whether a tree is of this format.
        read: the policy in a tree.
    """

    name: str
    matches: Callable[[Any], bool]
    read: Callable[[Any, Path, ImportOptions], ForeignPolicy]


TREES = (
    TreeFormat("TorchScript", torchscript.matches, torchscript.read),
    TreeFormat("rsl_rl", rsl_rl.matches, rsl_rl.read),
    TreeFormat("rl_games", other_libraries.is_rl_games, other_libraries.read_rl_games),
    TreeFormat("skrl", other_libraries.is_skrl, other_libraries.read_skrl),
    TreeFormat("CleanRL", other_libraries.is_cleanrl, other_libraries.read_cleanrl),
)
"""Formats of files that torch wrote, in the order in which they are tried."""


def read_foreign(path: Path, options: ImportOptions = ImportOptions()) -> ForeignPolicy:
    """Return the policy in a file of another library.

    Args:
        path: a zip of stable-baselines3, a checkpoint of rsl_rl, rl_games, skrl or CleanRL, a TorchScript archive, or
            an ONNX file. A folder with exactly one such zip is read as that zip.
        options: what the file does not say.

    Raises:
        PolicyFileError: with the reason and the way out.
        ConfigError: if a package is missing.
    """
    path = policy_path(path)
    content = read_bytes(path)
    foreign = _read(path, content, options)
    check_sizes(foreign, whole=False)
    return foreign


def _read(path: Path, content: bytes, options: ImportOptions) -> ForeignPolicy:
    if is_sb3_zip(content):
        return read_sb3(path, options)
    if is_torch_file(content):
        tree = read_torch_file(content, path.name).tree
        for form in TREES:
            if form.matches(tree):
                return form.read(tree, path, options)
        keys = sorted(map(str, tree))[:6] if isinstance(tree, dict) else type(tree).__name__
        known = ", ".join(form.name for form in TREES)
        raise PolicyFileError(f"{path} is a file of torch, but of none of the libraries {known}; it holds {keys}")
    if path.suffix == ".onnx":
        return read_onnx(content, path)
    raise PolicyFileError(
        f"{path} is neither a zip of stable-baselines3, nor a file of torch, nor an ONNX file; TensorFlow and JAX "
        f"checkpoints must be exported to ONNX first"
    )


def policy_path(path: Path) -> Path:
    """Return the file of a path; a folder stands for the one zip in or next to it.

    Raises:
        PolicyFileError: for a folder without exactly one zip.
    """
    if not path.is_dir():
        return path
    zips = sorted(path.glob("*.zip"))
    if len(zips) == 1:
        return zips[0]
    neighbor = path.with_suffix(".zip") if path.suffix != ".zip" else path
    if not zips and neighbor.is_file():
        return neighbor
    raise PolicyFileError(f"{path} is a folder with {len(zips)} zips; name the policy's file")
