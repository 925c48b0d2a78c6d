"""Rollback: the policy of an earlier stage of a run, or an earlier parent of a policy, as a file of its own.

It copies files and trains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from policykd.agents.files.manifest import Manifest
from policykd.agents.files.policy_file import read_manifest
from policykd.agents.lineage.tree import Lineage, Relative, trace
from policykd.agents.lineage.undo import copy_policy
from policykd.curriculum.stage_runner import StageFolders
from policykd.errors import ConfigError, OutputError, PolicyFileError, UnknownNameError

_LEAST = 6  # characters of a hash that name a policy


@dataclass(frozen=True)
class RolledBack:
    """An earlier policy.

    Attributes:
        source: the file that was copied.
        manifest: its manifest.
        lacking: skills of the run's last policy that it was not made for; None if the run has no last policy yet.
    """

    source: Path
    manifest: Manifest
    lacking: tuple[str, ...] | None


def rollback(run: Path, to: str, out: Path, *, search: Sequence[Path] = ()) -> RolledBack:
    """Copy the policy of an earlier stage or of an ancestor, byte for byte, so that its lineage stays the same.

    Args:
        run: folder of a curriculum or of ``add-skill``, with its stages; or of another run, or a policy file.
        to: name of a stage; or of an ancestor, as ``policykd lineage`` shows it: its name, or six or more characters of
            its hash.
        out: the new policy file, a folder or a ``.zip``, which must not exist.
        search: folders in which ancestors are searched, in addition to those around the run.

    Raises:
        UnknownNameError: if neither a stage nor an ancestor is called so, with the names of all.
        ConfigError: if several ancestors are called so.
        OutputError: for a stage that is not finished, an ancestor whose file is not found, or an ``out`` that exists.
        PolicyFileError: if the file is damaged, or ``run`` holds no policy.
    """
    stages = stage_names(run)
    source = _of_stage(run, to) if to in stages else _of_ancestor(_lineage(run, stages, search), to, stages)
    manifest = copy_policy(source, out)
    return RolledBack(source, manifest, _lacking(run, manifest))


def stage_names(run: Path) -> list[str]:
    """Return the names of a run's stages that hold a policy; empty for a run without stages."""
    folder = run / "stages"
    return sorted(entry.name for entry in folder.iterdir() if (entry / "policy").is_dir()) if folder.is_dir() else []


def _of_stage(run: Path, name: str) -> Path:
    folders = StageFolders(run / "stages")
    if folders.outcome(name) is None:
        raise OutputError(f"stage {name} of {run} is not finished; continue the run with --resume, or choose another")
    return folders.policy(name)


def _lineage(run: Path, stages: Sequence[str], search: Sequence[Path]) -> Lineage | None:
    """Return the lineage of a run's last policy; None for a curriculum that has none yet."""
    try:
        return trace(run, search)
    except PolicyFileError:
        if stages:
            return None
        raise


def _of_ancestor(lineage: Lineage | None, to: str, stages: Sequence[str]) -> Path:
    others = {} if lineage is None else {key: r for key, r in lineage.policies.items() if key != lineage.root}
    named = {key: relative for key, relative in others.items() if _is_called(key, relative, to)}
    if not named:
        names = [f"{r.name} [{r.weights_sha256[:12]}]" for r in others.values()]
        raise UnknownNameError("stage or ancestor", to, [*stages, *names])
    if len(named) > 1:  # by the hashes of their manifests: weights may be the same
        hashes = ", ".join(f"{key[:12]} ({', '.join(_skills(r))})" for key, r in named.items())
        raise ConfigError(f"{len(named)} ancestors are called {to}; name one by its hash: {hashes}")
    (found,) = named.values()
    if found.path is None:
        raise OutputError(
            f"the file of ancestor {found.name} [{found.weights_sha256[:12]}] was not found; name the folder that "
            f"holds it with --search"
        )
    return found.path


def _skills(relative: Relative) -> Sequence[str]:
    return ("file not found",) if relative.manifest is None else relative.manifest.skills


def _is_called(key: str, relative: Relative, to: str) -> bool:
    hashes = (key, relative.weights_sha256)
    return relative.name == to or (len(to) >= _LEAST and any(name.startswith(to.lower()) for name in hashes))


def _lacking(run: Path, manifest: Manifest) -> tuple[str, ...] | None:
    try:
        last = read_manifest(run)
    except PolicyFileError:
        return None
    return tuple(skill for skill in last.skills if skill not in manifest.skills)
