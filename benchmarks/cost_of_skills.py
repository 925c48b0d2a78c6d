"""Cost of a skill: reinforcement learning of an expert over distillation to the same share of the expert's reward.

    python benchmarks/cost_of_skills.py results/demo results/demo-1 results/demo-2   # demos of several seeds
    python benchmarks/cost_of_skills.py results/demo --merge results/fast             # another merge of these experts
    python benchmarks/cost_of_skills.py --write docs/merging.md

It reads run folders and simulates nothing. By reinforcement learning, the cost is the environment steps and seconds
until a validation of the training first had 0.95, or 0.98, of the reward per step of the expert's final validation; by
distillation, the labeled states and seconds until a validation of the merge first had that share of the expert's
reward. Seconds are wall time, which is what run folders hold: trainings that shared the cores took longer than alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from doc_figures.check import write_page
from doc_figures.control import COST_HEAD, cost_of_skills
from doc_tables import markdown
from policykd.errors import ConfigError, OutputError
from policykd.storage import prepare_folder, read_json, write_json

RESULTS = Path("benchmarks/results")
MARKS = (0.95, 0.98)
"""Shares of the expert's reward."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        demos: folders of `policykd demo`, one per seed: trainings in ``experts``, and a merge in ``student``.
        merge: folders of other merges of the same experts, one per demo; by default those of the demos.
        results: file of the costs.
        write: page to write the table into.
    """

    demos: tyro.conf.Positional[tuple[Path, ...]] = ()
    merge: tuple[Path, ...] = ()
    results: Path = RESULTS / "cost-of-skills.json"
    write: Path | None = None


def costs_of(demo: Path, merge: Path) -> dict[str, Any]:
    """Return the costs of every skill by both ways, None where the share was not reached.

    Args:
        demo: folder with the trainings' run folders in ``experts``.
        merge: run folder of the merge.

    Raises:
        OutputError: for a folder without finished runs, or a skill that was not merged.
    """
    merged, skills = merge_costs(merge), {}
    for expert in sorted((demo / "experts").glob("*/result.json")):
        skill, found = training_costs(expert.parent)
        if skill not in merged:
            raise OutputError(f"{merge} lacks the skill {skill} of {expert.parent}; give the merge of these experts")
        skills[skill] = {mark: {"rl": found[mark], "merge": merged[skill][mark]} for mark in found}
    if not skills:
        raise OutputError(f"{demo / 'experts'} holds no finished training; give the folder of `policykd demo`")
    return {"demo": demo.name, "merge": "/".join(merge.parts[-2:]), "skills": skills}


def training_costs(run: Path) -> tuple[str, dict[str, dict[str, Any] | None]]:
    """Return the skill of a training, and by share its first validation with that share of the final reward.

    Raises:
        OutputError: if the run was not finished.
        ConfigError: for rewards that have no shares, because they are not positive.
    """
    final = read_json(run / "result.json")["reward_per_step"]
    if final <= 0:
        raise ConfigError(f"the final reward per step of {run} is {final:g}; shares need rewards that are positive")
    (skill,) = read_json(run / "policy" / "manifest.json")["skills"]
    rows = [(row["reward_per_step"] / final, row) for row in rows_of(run)]
    return skill, {str(mark): _first(rows, mark, ("steps", "seconds")) for mark in MARKS}


def merge_costs(run: Path) -> dict[str, dict[str, dict[str, Any] | None]]:
    """Return by skill and share the first validation of a merge with that retention.

    ``states`` are the labeled states of all skills to which the tested student was fitted, ``skill_states`` those of
    the skill, and ``seconds`` those of the whole merge until then.
    """
    tests, states = tests_of(rows_of(run)), states_by_round(run)
    found: dict[str, dict[str, dict[str, Any] | None]] = {}
    for skill in states[-1]:
        rows = [(kept[skill], {**row, "skill_states": states[i][skill]}) for kept, row, i in tests]
        found[skill] = {str(mark): _first(rows, mark, ("states", "skill_states", "seconds")) for mark in MARKS}
    return found


def tests_of(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, float], Mapping[str, Any], int]]:
    """Return the tests of a merge in order: retention by skill, and row and index of the round that ended before it.

    The early test of a quick merge is of the student that collected the round, so its cost is that of the round before.
    """
    found = []
    for i, row in enumerate(rows):
        if "early" in row:
            found.append((row["early"]["retention"], rows[i - 1], i - 1))
        if "retention" in row:
            found.append((row["retention"], row, i))
    return found


def states_by_round(run: Path) -> list[dict[str, int]]:
    """Return the labeled states of every skill until the end of each round.

    Raises:
        OutputError: for a merge that holds neither its data nor the numbers of simulations.
    """
    rows, manifest = rows_of(run), run / "data" / "manifest.json"
    if manifest.exists():
        shards = read_json(manifest)["shards"]
        return [_sums(shards, row["round"]) for row in rows]
    if "simulations" not in rows[0]:
        raise OutputError(f"{run} has no data/manifest.json, which says how many states each skill has; merge again")
    total, before, found = dict.fromkeys(rows[0]["simulations"], 0), 0, []
    for row in rows:
        new, count = row["states"] - before, sum(row["simulations"].values())
        total = {skill: total[skill] + new * n // count for skill, n in row["simulations"].items()}
        before = row["states"]
        found.append(total)
    return found


def _sums(shards: Sequence[Mapping[str, Any]], rounds: int) -> dict[str, int]:
    sums: dict[str, int] = {}
    for shard in shards:
        if shard["round"] < rounds:
            sums[shard["skill"]] = sums.get(shard["skill"], 0) + shard["steps"] * shard["simulations"]
    return sums


def rows_of(run: Path) -> list[dict[str, Any]]:
    """Return the validations of a run.

    Raises:
        OutputError: for a folder without any.
    """
    log = run / "progress.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    if not rows:
        raise OutputError(f"{run} is not the folder of a training or a merge: it has no rows in progress.jsonl")
    return rows


def _first(rows: Sequence[tuple[float, Mapping[str, Any]]], mark: float, names: Sequence[str]) -> dict[str, Any] | None:
    """Return these figures of the first row whose share is at least the mark, or None."""
    for share, row in rows:
        if share >= mark:
            return {name: row[name] for name in names}
    return None


def main(options: Options) -> None:
    """Read the runs, print the table, and write it.

    Raises:
        ConfigError: without demos and without a page to write, or for another number of merges than demos.
        OutputError: for a folder without the runs, or a page without the mark of the table.
    """
    if not options.demos and options.write is None:
        raise ConfigError("give folders of policykd demo (results/demo), or --write docs/merging.md")
    if options.merge and len(options.merge) != len(options.demos):
        raise ConfigError(f"{len(options.merge)} merges for {len(options.demos)} demos; give one per demo (--merge)")
    if options.demos:
        merges = options.merge or tuple(demo / "student" for demo in options.demos)
        demos = [costs_of(demo, merge) for demo, merge in zip(options.demos, merges, strict=True)]
        content = {"marks": [str(mark) for mark in MARKS], "demos": demos}
        prepare_folder(options.results.parent)
        write_json(options.results, content)
        print(markdown(COST_HEAD, cost_of_skills(content)))
    if options.write is not None:
        write_page(options.write, "cost-of-skills", RESULTS)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
