"""The nearest policy that several policies come from, by their lineages.

It reads policy files and decides by hashes; names are only shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from policykd.agents.files.manifest import Manifest
from policykd.agents.files.policy_file import read_manifest
from policykd.agents.lineage.tree import Lineage, Relative, trace
from policykd.errors import ContractError
from policykd.merge.weights.contract import obstacles


@dataclass(frozen=True)
class Common:
    """A policy in the lineages of several others.

    Attributes:
        weights_sha256: hash of its weights.
        generations: generations from all of them together; 0 for a policy that is one of them counts, too.
        path: its file; None if none was found.
        manifest: its manifest; None if no file was found.
        name: a name for people.
    """

    weights_sha256: str
    generations: int
    path: Path | None
    manifest: Manifest | None
    name: str


def common_policies(lineages: Sequence[Lineage]) -> list[Common]:
    """Return the policies that are in all lineages, the nearest first; a policy is in its own lineage."""
    members = [_by_weights(lineage) for lineage in lineages]
    found = []
    for weights in members[0]:
        if not all(weights in others for others in members):
            continue
        relatives = [others[weights][1] for others in members]
        known = next((r for r in relatives if r.manifest is not None), relatives[0])
        generations = sum(others[weights][0] for others in members)
        name = next((r.name for r in relatives if r.name), "")
        found.append(Common(weights, generations, known.path, known.manifest, name))
    return sorted(found, key=lambda common: (common.generations, common.weights_sha256))


def common_ancestor(policies: Mapping[str, Path], search: Sequence[Path] = ()) -> Path:
    """Return the file of the nearest policy that all policies come from and whose weights can be subtracted.

    One of the policies may itself be the ancestor of the others; its delta is then 0.

    Args:
        policies: name to policy file.
        search: folders in which parents are searched, in addition to those around the policies' runs.

    Raises:
        ContractError: if the lineages have no policy in common, its file is not found, its shape is another one, or two
            are equally near.
    """
    lineages = {name: trace(path, search) for name, path in policies.items()}
    common = common_policies(list(lineages.values()))
    if not common:
        lost = sorted({r.name for lineage in lineages.values() for r in lineage.missing})
        searched = f"; the files of {', '.join(lost)} were not found (name their folder with --search)" if lost else ""
        raise ContractError(
            f"the lineages of {', '.join(policies)} have no policy in common{searched}; give the policy that they were "
            f"trained from with --ancestor, or use --method average"
        )
    manifest = read_manifest(next(iter(policies.values())))
    fitting = [c for c in common if c.manifest is not None and not obstacles(manifest, c.manifest)]
    if not fitting:
        raise ContractError(_why_not(common[0], manifest))
    nearest = [c for c in fitting if c.generations == fitting[0].generations]
    if len(nearest) > 1:
        files = ", ".join(str(c.path) for c in nearest)
        raise ContractError(f"several common ancestors are equally near: {files}; choose one with --ancestor")
    path = nearest[0].path
    assert path is not None
    return path


def is_related(weights_sha256: str, lineages: Sequence[Lineage]) -> bool:
    """Return whether all lineages name a policy with these weights."""
    return all(weights_sha256 in _by_weights(lineage) for lineage in lineages)


def _by_weights(lineage: Lineage) -> dict[str, tuple[int, Relative]]:
    """Return the policies of a lineage by the hash of their weights, with their least number of generations."""
    found: dict[str, tuple[int, Relative]] = {}
    for key, generations in lineage.generations().items():
        relative = lineage.policies[key]
        found.setdefault(relative.weights_sha256, (generations, relative))  # the nearest comes first
    return found


def _why_not(nearest: Common, manifest: Manifest) -> str:
    who = f"the nearest common ancestor, {nearest.name or 'unnamed'} [{nearest.weights_sha256[:12]}],"
    if nearest.manifest is None:
        return f"the file of {who} was not found; name its folder with --search, or the file with --ancestor"
    return (
        f"the weights of {who} cannot be subtracted; it differs in {'; '.join(obstacles(manifest, nearest.manifest))}"
    )
