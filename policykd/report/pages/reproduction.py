"""The commands that reproduce a run, from its configuration and manifests.

It writes command lines and runs none.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from policykd.report.run_files import ResultsFolder, RunFiles


def reproduction(results: ResultsFolder) -> list[str]:
    """Return the commands in their order; settings that they do not name are the defaults."""
    commands = [_demo(results), "# or step by step:"] if results.demo else []
    commands += [command for run in results.runs for command in _make(results, run)]
    if results.runs:
        names = [run.name for run in results.runs]
        evaluation = results.evaluation
        options = [*names, "--skills", *evaluation.skills, "--episodes", evaluation.episodes, "--seed", evaluation.seed]
        commands.append(_line("evaluate", *options))
        commands += [_line("render", names[-1], "--skill", skill) for skill in evaluation.skills[:1]]
    return commands


def _demo(results: ResultsFolder) -> str:
    evaluation = results.evaluation
    seed = results.demo.get("seed", evaluation.seed)
    return _line("demo", "--skills", *evaluation.skills, "--episodes", evaluation.episodes, "--seed", seed)


def _make(results: ResultsFolder, run: RunFiles) -> list[str]:
    manifest = run.manifest
    if manifest.operation == "merge":
        folders = _parents(results, run)
        return [_line("merge", *folders, "--seed", manifest.seed, "--out", run.name)] if folders else []
    if manifest.operation == "train":
        steps = run.config.get("train", {}).get("steps")
        budget = ["--steps", steps] if steps else []
        out = run.name.rpartition("/")[0] or "."
        return [_line("train", *manifest.skills, *budget, "--seed", manifest.seed, "--out", out)]
    return []


def _parents(results: ResultsFolder, run: RunFiles) -> Sequence[str]:
    """Return the folders of a run's parents; empty if one of them is not in the results folder."""
    hashes = [parent.weights_sha256 for parent in run.manifest.parents]
    known = all(digest in results.names for digest in hashes)
    return [results.names[digest] for digest in hashes] if known else []


def _line(*words: object) -> str:
    return shlex.join(["policykd", *(str(word) for word in words)])
