"""Merge policy files in weight space: check them, refer their weights to one normalizer, combine, save.

Nothing is simulated, so the result is not validated; ``policykd evaluate`` does that.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from policykd.agents.files.manifest import Manifest
from policykd.agents.files.policy_file import LoadedPolicy, load_named, load_policy, save_policy
from policykd.agents.lineage.tree import trace
from policykd.agents.policy import check_one_network
from policykd.agents.recurrent_policy import check_memoryless
from policykd.envs.foreign.skill import shared_actions
from policykd.errors import ConfigError, OutputError
from policykd.merge.weights.ancestor import common_ancestor, common_policies, is_related
from policykd.merge.weights.config import WeightMergeConfig
from policykd.merge.weights.contract import check_same, records_of_all, skills_of
from policykd.merge.weights.methods import Parameters, combine, delta_norm, sign_conflicts
from policykd.merge.weights.normalizers import check_reach, pooled, referred, with_parameters
from policykd.plain import as_plain

OPERATION = "merge-weights"
"""Operation in the manifests of merged policies."""


@dataclass(frozen=True)
class WeightMerge:
    """A merge in weight space.

    Attributes:
        policy_path: the merged policy's file.
        manifest: its manifest.
        ancestor: file of the common ancestor; None for an average.
        related: whether the lineages of all policies name the ancestor or, for an average, have any policy in common.
        delta_norms: norm of the actor's delta over the ancestor, by policy; empty for an average.
        sign_conflicts: share of the actor's parameters that some policies moved up and others down; None for an
            average.
    """

    policy_path: Path
    manifest: Manifest
    ancestor: Path | None
    related: bool
    delta_norms: Mapping[str, float]
    sign_conflicts: float | None


def merge_weights(
    policies: Sequence[Path],
    out: Path,
    config: WeightMergeConfig = WeightMergeConfig(),
    *,
    ancestor: Path | None = None,
    search: Sequence[Path] = (),
) -> WeightMerge:
    """Merge policies in weight space.

    All weights are first referred to the pooled normalizer of the policies, which changes no function where features
    are not clipped; see :mod:`policykd.merge.weights.normalizers`.

    Args:
        policies: two or more policy files, or folders of runs, of the same architecture and observation groups.
        out: the new policy file, a folder or a ``.zip``, which must not exist.
        config: the method.
        ancestor: policy file of the common ancestor; None to find it in the lineages. Not for ``average``.
        search: folders in which parents are searched, in addition to those around the policies' runs.

    Returns:
        The merge; the new policy has the skills of all policies, and no figures.

    Raises:
        ConfigError: for fewer than two policies, one that is given twice, or an ancestor that would not be used.
        ContractError: for policies of different shapes or with memories, normalizers that differ too much, or a missing
            ancestor, with the reason.
        PolicyFileError: if a policy cannot be loaded.
        OutputError: if ``out`` exists or cannot be written.
    """
    if out.exists():
        raise OutputError(f"{out} exists; choose another --out")
    if len(policies) < 2:
        raise ConfigError(f"{len(policies)} policies were given; name two or more")
    if ancestor is not None and not config.needs_ancestor:
        raise ConfigError(f"method {config.method} uses no ancestor; leave out --ancestor, or choose another method")
    loaded = load_named(policies)
    for entry in loaded.values():
        check_memoryless(entry.policy, "policykd merge-weights")
        check_one_network(entry.policy, "policykd merge-weights")
    check_same({name: entry.manifest for name, entry in loaded.items()})
    paths = dict(zip(loaded, policies, strict=True))
    base = (ancestor or common_ancestor(paths, search)) if config.needs_ancestor else None
    return _merge(loaded, paths, out, config.resolved(), base, search)


def _merge(
    loaded: Mapping[str, LoadedPolicy],
    paths: Mapping[str, Path],
    out: Path,
    config: WeightMergeConfig,
    base: Path | None,
    search: Sequence[Path],
) -> WeightMerge:
    """Merge policies that fit each other."""
    manifests = [entry.manifest for entry in loaded.values()]
    origin = None if base is None else load_policy(base)
    if origin is not None:
        check_same({next(iter(loaded)): manifests[0], f"the ancestor {base}": origin.manifest})
    skills, records = skills_of(manifests), records_of_all(manifests)
    networks = {name: entry.policy for name, entry in loaded.items()}
    common = pooled([policy.normalizer for policy in networks.values()])
    check_reach(networks, common)
    points = {name: referred(policy, common) for name, policy in networks.items()}
    start = None if origin is None else referred(origin.policy, common)
    merged = with_parameters(
        copy.deepcopy(next(iter(networks.values()))), combine(list(points.values()), start, config), common
    )
    norms, conflicts = _deltas(points, start)
    parents = [entry.manifest.as_parent(str(paths[name])) for name, entry in loaded.items()]
    if origin is not None and origin.manifest.weights_sha256 not in {m.weights_sha256 for m in manifests}:
        parents.append(origin.manifest.as_parent("ancestor"))
    manifest = save_policy(
        out, merged, robot=shared_actions(skills), skills=[skill.id for skill in skills], skill_records=records,
        operation=OPERATION, parents=parents, seed=config.seed, config=as_plain(config),
        metrics={"delta_norms": norms, "sign_conflicts": conflicts} if norms else {},
    )  # fmt: skip
    related = _related(paths, origin, search)
    return WeightMerge(out, manifest, base, related, norms, conflicts)


def _deltas(points: Mapping[str, Parameters], start: Parameters | None) -> tuple[dict[str, float], float | None]:
    """Return the norms of the deltas and the share of conflicts; nothing for an average."""
    if start is None:
        return {}, None
    return {name: delta_norm(p, start) for name, p in points.items()}, sign_conflicts(list(points.values()), start)


def _related(paths: Mapping[str, Path], origin: LoadedPolicy | None, search: Sequence[Path]) -> bool:
    lineages = [trace(path, search) for path in paths.values()]
    if origin is not None:
        return is_related(origin.manifest.weights_sha256, lineages)
    return bool(common_policies(lineages))
