"""Fine-tuning a student on one skill: what that skill gains and the others lose, with and without each safeguard.

    python benchmarks/finetuning.py --student STUDENT --targets quadruped/slopes quadruped/mixed --seeds 0 1 2

A cell is one run of ``policykd.finetune`` from the same student and an evaluation of both on tracks that no run used.
Retention is relative to the student. The same command continues an interrupted run; finished cells are not run again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from policykd.agents.files.policy_file import LoadedPolicy, load_policy
from policykd.agents.training.defaults import default_config
from policykd.cli.commands.finetune import slow_ppo
from policykd.cli.output import Bars
from policykd.envs.skill_records import read_skill, recorded_skill
from policykd.envs.skills import Skill
from policykd.errors import UnknownNameError
from policykd.evaluation import evaluate
from policykd.finetune import FinetuneConfig, finetune
from policykd.plain import as_plain
from policykd.storage import prepare_folder, read_json, write_json

_RAW: Mapping[str, Any] = {"averaging_steps": 0}

ARMS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "without averaging": _RAW,
    "without averaging and warm-up": {**_RAW, "warm_up_steps": 0},
    "without averaging and rehearsal": _RAW,
    "without all three": {**_RAW, "warm_up_steps": 0},
    "with a leash": {"leash": 0.1},
}
"""Changed settings by arm."""

UNREHEARSED = ("without averaging and rehearsal", "without all three")
"""Arms that do not simulate the old skills, so that nothing holds or measures them."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        student: policy file, or folder of a merge.
        targets: skills to improve, one per run.
        arms: arms.
        seeds: seeds of the runs.
        steps: environment steps of a run.
        episodes: tracks of every skill in the evaluation.
        out: folder of the runs.
        results: folder of one JSON file per cell.
    """

    student: Path
    targets: tuple[str, ...]
    arms: tuple[str, ...] = tuple(ARMS)
    seeds: tuple[int, ...] = (0,)
    steps: int = 800_000
    episodes: int = 256
    out: Path = Path("results/benchmarks/finetuning")
    results: Path = Path("results/benchmarks/finetuning/cells")


def skills_of(student: LoadedPolicy, target: str) -> tuple[Skill, list[Skill]]:
    """Return the skill to improve, and all others of the student."""
    groups, records = list(student.policy.groups), student.manifest.skill_records
    known = {name: recorded_skill(name, records, groups) for name in student.manifest.skills}
    own = known.get(target) or read_skill(target, groups, [records])
    return own, [skill for name, skill in known.items() if name != target]


def config_of(arm: str, seed: int, steps: int, target: Skill) -> FinetuneConfig:
    """Return the run of a cell: the defaults of ``policykd finetune`` for the robot, and what the arm changes."""
    ppo = slow_ppo(default_config(target.robot).ppo)
    return replace(FinetuneConfig(steps=steps, seed=seed, ppo=ppo), **ARMS[arm])


def run_cell(target: str, arm: str, seed: int, options: Options, console: Console) -> dict[str, Any]:
    """Run a cell, or read its result."""
    slug = f"{target.replace('/', '-')}-{arm.replace(' ', '-')}-{seed}"
    record = options.results / f"{slug}.json"
    if record.exists():
        return read_json(record)
    student = load_policy(options.student)
    own, others = skills_of(student, target)
    config = config_of(arm, seed, options.steps, own)
    folder = options.out / slug
    result = finetune(
        student, [own], folder, config, rehearsed=[] if arm in UNREHEARSED else others, resume=True,
        progress=Bars(console),
    )  # fmt: skip
    pair = {"start": load_policy(options.student).policy, "result": load_policy(result.policy_path).policy}
    skills = [own, *others]
    found = evaluate(pair, skills, episodes=options.episodes, seed=seed, experts={s.id: "start" for s in skills})
    figures = {
        "target": target, "arm": arm, "seed": seed, "config": as_plain(config), "steps": result.steps,
        "seconds": result.seconds, "rollbacks": result.rollbacks, "improved": result.improved,
        "episodes": options.episodes,
        "skills": {s.id: {name: _figures(found.summaries[name, s.id]) for name in pair} for s in skills},
        "validations": [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()],
    }  # fmt: skip
    prepare_folder(options.results)
    write_json(record, figures)
    return figures


def _figures(summary: Any) -> dict[str, Any]:
    pairs = ((name, getattr(summary, name)) for name in ("success", "reward_per_step", "retention"))
    return {name: None if one is None else [one.estimate, one.low, one.high] for name, one in pairs}


def least_kept(cell: Mapping[str, Any]) -> float:
    """Return the least share of its reward that any old skill had of the result, in the evaluation."""
    old = [figures["result"] for skill, figures in cell["skills"].items() if skill != cell["target"]]
    return min(figures["retention"][0] for figures in old)


def least_success(cell: Mapping[str, Any]) -> float:
    """Return the least success that any old skill had of the result, in the evaluation."""
    return min(figures["result"]["success"][0] for skill, figures in cell["skills"].items() if skill != cell["target"])


def least_validated(cell: Mapping[str, Any]) -> float | None:
    """Return the least share of its reward that any old skill had in a validation; None if none was validated."""
    first, *later = cell["validations"]
    old = [skill for skill in first["skills"] if skill != cell["target"]]

    def share(row: Mapping[str, Any], skill: str) -> float:
        return row["skills"][skill]["reward_per_step"] / first["skills"][skill]["reward_per_step"]

    return min((share(row, skill) for row in later for skill in old), default=None)


def gain(cell: Mapping[str, Any], name: str) -> tuple[float, float]:
    """Return success or reward per step on the skill to improve, of the start and of the result."""
    own = cell["skills"][cell["target"]]
    return own["start"][name][0], own["result"][name][0]


def table_of(cells: Sequence[Mapping[str, Any]]) -> Table:
    """Return one row per cell."""
    table = Table("target", "arm", "seed", "success", "reward per step", "least old skill", "validated", box=None)
    for cell in cells:
        pairs = [" to ".join(f"{value:.3f}" for value in gain(cell, name)) for name in ("success", "reward_per_step")]
        validated = least_validated(cell)
        table.add_row(
            cell["target"], cell["arm"], str(cell["seed"]), *pairs, f"{least_kept(cell):.3f}",
            "" if validated is None else f"{validated:.3f}",
        )  # fmt: skip
    return table


def main(options: Options) -> None:
    """Run the cells seed by seed and print the table.

    Raises:
        UnknownNameError: for an unknown arm.
    """
    for arm in options.arms:
        if arm not in ARMS:
            raise UnknownNameError("arm", arm, ARMS)
    console = Console()
    cells = [
        run_cell(target, arm, seed, options, console)
        for seed in options.seeds
        for target in options.targets
        for arm in options.arms
    ]
    console.print(table_of(cells))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
