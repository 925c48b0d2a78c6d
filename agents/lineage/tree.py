"""The lineage of a policy: its parents, their parents and so on, connected by the hashes of their weights.

Names of parents are for people; they are never followed as paths, because policy files may come from strangers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from policykd.agents.files.container import MANIFEST
from policykd.agents.files.manifest import Manifest, Parent
from policykd.agents.files.policy_file import read_manifest
from policykd.agents.lineage.figures import recorded_figures
from policykd.agents.lineage.search import Found, Library
from policykd.errors import OutputError

FORGET = "forget-skill"
"""Operation of a policy with one skill less than its parent, and the same weights."""

EXACT_PARENT = "parent_content_sha256"
"""Field of the configuration of such a policy: hash of its parent's manifest, since weights do not tell them apart."""

MOST_GENERATIONS = 300
"""Longest chain of parents that is followed."""

_SHORT = 12  # characters of a hash that are shown


@dataclass(frozen=True)
class Relative:
    """One policy of a lineage.

    Attributes:
        name: name that its child has for it; empty for the policy whose lineage it is.
        weights_sha256: hash of its weights.
        path: its file; None if none was found.
        manifest: its manifest; None if no file was found.
        parents: keys of its parents in :attr:`Lineage.policies`.
    """

    name: str
    weights_sha256: str
    path: Path | None = None
    manifest: Manifest | None = None
    parents: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """One line for people: operation, skills, file, hash and figures."""
        short = self.weights_sha256[:_SHORT]
        if self.manifest is None or self.path is None:
            return f"{self.name or 'unnamed'} [{short}]: file not found"
        head = f"{self.manifest.operation} {', '.join(self.manifest.skills)} [{short}] {shown_path(self.path)}"
        figures = ", ".join(f"{name} {value:.3f}" for name, value in recorded_figures(self.manifest).items())
        return f"{head}: {figures}" if figures else head


@dataclass(frozen=True)
class Lineage:
    """A policy and its ancestors.

    A policy that several others were made from is listed once.

    Attributes:
        root: key of the policy itself.
        policies: key to policy, the policy itself first, parents after their children. The key is the hash of the
            manifest, or of the weights where no file was found.
        searched: folders that were searched.
        unfinished: folders whose search ended early, because they hold too many others.
        damaged: files that cannot be read, with the reason.
    """

    root: str
    policies: Mapping[str, Relative]
    searched: tuple[Path, ...] = ()
    unfinished: tuple[Path, ...] = ()
    damaged: Mapping[Path, str] | None = None

    @property
    def missing(self) -> list[Relative]:
        """Ancestors whose files were not found."""
        return [relative for relative in self.policies.values() if relative.manifest is None]

    def generations(self) -> dict[str, int]:
        """Return the least number of generations from the policy to each one of its lineage, 0 for itself."""
        found, level = {self.root: 0}, [self.root]
        while level:
            above = dict.fromkeys(parent for key in level for parent in self.policies[key].parents)
            level = [key for key in above if key not in found]
            found |= {key: found_at for key in level for found_at in [max(found.values()) + 1]}
        return found

    def lines(self) -> list[str]:
        """Return the tree as text; the parents of a policy that appears twice are drawn once."""
        drawn: set[str] = set()
        found: list[str] = []

        def draw(key: str, first: str, rest: str) -> None:
            relative = self.policies[key]
            again = key in drawn and bool(relative.parents)
            drawn.add(key)
            found.append(f"{first}{relative.label}{' (parents above)' if again else ''}")
            for i, parent in enumerate(() if again else relative.parents):
                last = i + 1 == len(relative.parents)
                draw(parent, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))

        draw(self.root, "", "")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the lineage as JSON: every policy once, with the keys of its parents."""
        return {
            "root": self.root,
            "policies": [_plain(key, relative) for key, relative in self.policies.items()],
            "searched": [shown_path(place) for place in self.searched],
            "unfinished": [shown_path(place) for place in self.unfinished],
            "damaged": {shown_path(path): reason for path, reason in (self.damaged or {}).items()},
        }


def trace(policy: Path, search: Sequence[Path] = ()) -> Lineage:
    """Return the lineage of a policy.

    Parents are searched in the given folders, then around the policy's run folder: in the run, and in the folder that
    holds the run. A place is searched only while a parent is missing.

    Args:
        policy: policy file, or folder of its run.
        search: folders that hold other policies.

    Raises:
        PolicyFileError: if the policy cannot be read.
        OutputError: for a folder that does not exist, or a chain of more than 300 parents.
    """
    root = Found(_file(policy), read_manifest(policy))
    library = Library()
    library.put(root)
    for place in search:
        library.search(place.resolve())
    policies = _Tracer(library).trace(root)
    for place in _around(policy.resolve()):
        if all(relative.manifest is not None for relative in policies.values()):
            break
        library.search(place)
        policies = _Tracer(library).trace(root)
    searched, unfinished = tuple(library.searched), tuple(library.unfinished)
    return Lineage(root.key, policies, searched, unfinished, dict(library.damaged))


class _Tracer:
    """Connects policies with their parents, depth first.

    The parent of a policy is never one of its own descendants, although weights can be equal along a line (a skill that
    was forgotten, a fine-tuning that kept its start): the lineage has no circle.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._policies: dict[str, Relative] = {}

    def trace(self, root: Found) -> dict[str, Relative]:
        self._visit(root, "", ())
        return self._policies

    def _visit(self, found: Found, name: str, line: tuple[str, ...]) -> str:
        if found.key in self._policies:
            return found.key
        if len(line) > MOST_GENERATIONS:
            raise OutputError(f"the lineage of {found.path} has more than {MOST_GENERATIONS} generations")
        own = Relative(name, found.manifest.weights_sha256, found.path, found.manifest)
        self._policies[found.key] = own  # in front of its parents
        below = (*line, found.key)
        parents = [self._parent(parent, found.manifest, below) for parent in found.manifest.parents]
        self._policies[found.key] = replace(own, parents=tuple(dict.fromkeys(parents)))
        return found.key

    def _parent(self, parent: Parent, child: Manifest, line: tuple[str, ...]) -> str:
        fitting = [f for f in self._library.with_weights(parent.weights_sha256) if f.key not in line]
        exact = child.config.get(EXACT_PARENT)
        # The file that the child names; else the one with all skills.
        fitting.sort(key=lambda f: (f.key != exact, f.manifest.operation == FORGET))
        if fitting:
            return self._visit(fitting[0], parent.name, line)
        self._policies.setdefault(parent.weights_sha256, Relative(parent.name, parent.weights_sha256))
        return parent.weights_sha256


def _file(policy: Path) -> Path:
    """Return the policy file of a path, which may be that of a run."""
    inner = policy / "policy"
    return inner if inner.is_dir() and not (policy / MANIFEST).exists() else policy


def _around(policy: Path) -> list[Path]:
    """Return the folders around a policy's run, from the nearest to the widest."""
    run = _file(policy).parent
    places = [run, run.parent]
    if run.parent.name == "stages":  # a stage of a curriculum
        places += [run.parent.parent, run.parent.parent.parent]
    return list(dict.fromkeys(places))


def shown_path(path: Path) -> str:
    """Return a path as text, relative to the current folder where it is inside."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


def _plain(key: str, relative: Relative) -> dict[str, Any]:
    manifest = relative.manifest
    return {
        "key": key,
        "name": relative.name,
        "weights_sha256": relative.weights_sha256,
        "path": None if relative.path is None else shown_path(relative.path),
        "operation": None if manifest is None else manifest.operation,
        "skills": None if manifest is None else list(manifest.skills),
        "figures": None if manifest is None else recorded_figures(manifest),
        "parents": list(relative.parents),
    }
