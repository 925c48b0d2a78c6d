"""Undo for policies: an exact copy of an earlier one, and one with a skill less.

Weights are never changed here; the files are read, checked and written whole.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from policykd import __version__
from policykd.agents.files.container import MANIFEST, WEIGHTS, read_parts, write_parts
from policykd.agents.files.manifest import Manifest
from policykd.agents.files.policy_file import load_policy
from policykd.agents.lineage.figures import without_skill
from policykd.agents.lineage.tree import EXACT_PARENT, FORGET
from policykd.errors import ConfigError, OutputError, UnknownNameError


def copy_policy(source: Path, out: Path) -> Manifest:
    """Copy a policy file byte for byte, so that its hashes, and with them its lineage, stay the same.

    Args:
        source: policy file, or folder of its run.
        out: the copy, a folder or a ``.zip``, which must not exist.

    Returns:
        The manifest.

    Raises:
        PolicyFileError: if the source is damaged; nothing is written.
        OutputError: if ``out`` exists or cannot be written.
    """
    _check_free(out)
    load_policy(source)
    record, weights = read_parts(source)
    write_parts(out, {WEIGHTS: weights, MANIFEST: record})
    return load_policy(out).manifest


def forget_skill(policy: Path, skill: str, out: Path) -> Manifest:
    """Write a policy without one skill in its list, records and metrics; the weights stay the same.

    The policy acts as before, on that skill, too: what changes is the list that merges, evaluations and ``add-skill``
    read. A later merge that is to retain the policy's skills then spends nothing on this one.

    Args:
        policy: policy file, or folder of its run.
        skill: id of the skill.
        out: the new policy file, a folder or a ``.zip``, which must not exist.

    Returns:
        The new manifest; the policy is its only parent.

    Raises:
        UnknownNameError: if the policy was not made for the skill.
        ConfigError: for the last skill.
        PolicyFileError: if the policy cannot be loaded.
        OutputError: if ``out`` exists or cannot be written.
    """
    _check_free(out)
    manifest = load_policy(policy).manifest
    if skill not in manifest.skills:
        raise UnknownNameError("skill of the policy", skill, manifest.skills)
    if len(manifest.skills) == 1:
        raise ConfigError(f"{skill} is the only skill of {policy}; a policy file names at least one")
    records = {name: value for name, value in (manifest.skill_records or {}).items() if name != skill}
    changed = replace(
        manifest,
        policykd_version=__version__,
        skills=tuple(name for name in manifest.skills if name != skill),
        skill_records=records or None,
        operation=FORGET,
        parents=(manifest.as_parent(" ".join(manifest.skills)),),
        metrics=without_skill(manifest.metrics, manifest.skills, skill),
        config={"skill": skill, EXACT_PARENT: manifest.content_sha256},
    )
    record = json.dumps(changed.to_json(), indent=2, allow_nan=False).encode() + b"\n"
    write_parts(out, {WEIGHTS: read_parts(policy)[1], MANIFEST: record})
    return load_policy(out).manifest


def _check_free(out: Path) -> None:
    if out.exists():
        raise OutputError(f"{out} exists; choose another --out")
