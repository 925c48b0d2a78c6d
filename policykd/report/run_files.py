"""Files of a results folder, read for its page: evaluation, manifests, logs, configurations, pictures, clips.

It reads what is there and computes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from policykd.agents.files.policy_file import Manifest, read_manifest
from policykd.envs.skills import slug
from policykd.errors import OutputError
from policykd.evaluation import Evaluation
from policykd.evaluation.results import RANDOM
from policykd.plain import shown
from policykd.runs import read_log
from policykd.storage import read_json

STRIP = "-strip"
"""End of the name of a film strip; the rest is that of the clip."""


@dataclass(frozen=True)
class RunFiles:
    """One training or merging run inside a results folder.

    Attributes:
        name: path inside the results folder, for example ``experts/flat``.
        manifest: manifest of the policy that it made.
        log: rows of ``progress.jsonl``.
        config: ``config.json``, empty if there is none.
        result: ``result.json``, empty if there is none.
    """

    name: str
    manifest: Manifest
    log: list[dict[str, Any]]
    config: dict[str, Any]
    result: dict[str, Any]

    @property
    def steps(self) -> int:
        """Environment steps that it used; 0 if the result does not hold them."""
        return int(self.result.get("steps") or self.result.get("states") or 0)

    @property
    def seconds(self) -> float:
        """Wall time that it took, s; 0 if the result does not hold it."""
        return float(self.result.get("seconds") or 0.0)


@dataclass(frozen=True)
class ResultsFolder:
    """A results folder.

    Attributes:
        path: the folder.
        evaluation: ``evaluation.json``.
        runs: the runs inside, experts before the policies that were made from them.
        demo: ``demo.json``, empty if there is none.
        routing: ``routing.json``, empty if there is none.
    """

    path: Path
    evaluation: Evaluation
    runs: tuple[RunFiles, ...]
    demo: dict[str, Any]
    routing: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> ResultsFolder:
        """Read a results folder.

        Raises:
            OutputError: if it does not hold an evaluation, or a file in it is garbled.
            PolicyFileError: for a policy that cannot be read.
        """
        manifests = sorted([*path.glob("*/policy/manifest.json"), *path.glob("*/*/policy/manifest.json")])
        runs = [_read_run(path, manifest.parent.parent) for manifest in manifests]
        evaluation = Evaluation.load(path / "evaluation.json")
        place = {skill: i for i, skill in enumerate(evaluation.skills)}
        runs.sort(key=lambda run: (len(run.manifest.parents), place.get(run.manifest.skills[0], len(place)), run.name))
        return cls(path, evaluation, tuple(runs), _optional(path / "demo.json"), _optional(path / "routing.json"))

    @cached_property
    def students(self) -> list[str]:
        """Names of the evaluated policies that are not an expert; empty without experts."""
        experts = set(self.evaluation.experts.values())
        return [name for name in self.evaluation.policies if experts and name not in experts and name != RANDOM]

    @cached_property
    def names(self) -> dict[str, str]:
        """Names of the runs by the hash of their weights."""
        return {run.manifest.weights_sha256: run.name for run in self.runs}

    def files(self, suffix: str) -> list[Path]:
        """Return files with a suffix, in the folder and one level below: first those of skills, in their order."""
        place = {slug(skill): i for i, skill in enumerate(self.evaluation.skills)}
        found = [*self.path.glob(f"[!.]*{suffix}"), *self.path.glob(f"*/[!.]*{suffix}")]  # hidden ones are unfinished
        return sorted(found, key=lambda file: (place.get(file.stem.removesuffix(STRIP), len(place)), file))


def _read_run(root: Path, folder: Path) -> RunFiles:
    result = _optional(folder / "result.json")
    for name in ("steps", "states", "seconds"):
        if not isinstance(result.get(name) or 0, int | float):
            raise OutputError(f"{folder / 'result.json'}: {name} is {shown(result[name])}; it must be a number")
    return RunFiles(
        name=folder.relative_to(root).as_posix(),
        manifest=read_manifest(folder / "policy"),
        log=read_log(folder / "progress.jsonl"),
        config=_optional(folder / "config.json"),
        result=result,
    )


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}
