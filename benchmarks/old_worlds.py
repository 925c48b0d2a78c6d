"""Without the old worlds: retention of old skills that are not simulated while a new one is merged into a student.

    python benchmarks/old_worlds.py --experts results/demo/experts/* --seeds 0 1 2
    python benchmarks/old_worlds.py --write docs/merging.md     # the table of all finished cells

All experts but the last are merged into a student, once per seed. Every arm then adds the last expert to it, with the
same settings and environment steps of the new skill. ``full`` simulates the old skills, too, which the student labels
itself. The same command continues an interrupted run; finished cells are not run again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from cells import experts_in_words
from doc_tables import markdown, write_between
from merge_seconds import measured
from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import LoadedPolicy, load_named, load_policy
from policykd.cli.output import Bars
from policykd.errors import ConfigError, UnknownNameError
from policykd.merge import MergeConfig, merge_experts, teachers_from
from policykd.plain import as_plain
from policykd.storage import prepare_folder, read_json, write_json

MARKER = "benchmarks/old_worlds.py"
BASE = MergeConfig(
    rounds=6, envs=32, updates=1600, minibatch=512, averaging=0.9995, noise=0.05, critic="none", target_retention=0.985,
    adaptive=0.4, gap_memory=0.6, architecture=Architecture(hidden=(256, 128), critic_hidden=(256, 128)),
)  # fmt: skip
"""Merge of the student to which the last expert is added."""

ADD: Mapping[str, Any] = {
    "start": "previous", "rounds": 4, "target_retention": 2.0, "adaptive": 0.0, "gap_memory": 0.0, "loss": "forward_kl",
    "learning_rate": 5e-4,
}  # fmt: skip
"""Changed settings of every arm: all have the same rounds and gradient steps, and a loss in nats, as EWC's penalty."""

ARMS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "ewc": {"protection": "ewc"},
    "ewc, lambda 10": {"protection": "ewc", "ewc_weight": 10.0},
    "ewc, lambda 100": {"protection": "ewc", "ewc_weight": 100.0},
    "compress": {"protection": "ewc", "beta": "constant:1"},
    "replay 1 %": {"protection": "replay", "replay_share": 0.01},
    "replay 10 %": {"protection": "replay", "replay_share": 0.1},
    "replay 100 %": {"protection": "replay", "replay_share": 1.0},
    "full": {},
}
"""Changed settings by arm."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        experts: policy files, or folders of training runs, of one robot; the last is added to a student of the others.
        arms: arms to run.
        seeds: seeds of the merges.
        episodes: tracks of every skill in the evaluation.
        quick: tiny merges, as a smoke test.
        out: folder of the merges.
        results: folder of one JSON file per cell.
        write: page to write the table of all finished cells into; nothing is run without experts.
    """

    experts: tuple[Path, ...] = ()
    arms: tuple[str, ...] = tuple(ARMS)
    seeds: tuple[int, ...] = (0, 1, 2)
    episodes: int = 256
    quick: bool = False
    out: Path = Path("results/benchmarks/old-worlds")
    results: Path = Path("benchmarks/results/old-worlds")
    write: Path | None = None


def config_of(arm: str | None, seed: int, *, quick: bool = False) -> MergeConfig:
    """Return the merge of an arm, or, for None, that of the first student.

    Raises:
        UnknownNameError: for an unknown arm.
    """
    if arm is not None and arm not in ARMS:
        raise UnknownNameError("arm", arm, ARMS)
    config = replace(BASE, seed=seed) if arm is None else replace(BASE, seed=seed, **{**ADD, **ARMS[arm]})
    if quick:
        return replace(
            config, rounds=2, envs=2, updates=5, minibatch=64, validation_episodes=2, min_teacher_success=0.0
        )
    return config


def first_student(experts: Mapping[str, LoadedPolicy], seed: int, options: Options, console: Console) -> Path:
    """Merge all experts but the last, once per seed, and return the run's folder."""
    folder = options.out / "student" / str(seed)
    teachers = teachers_from(list(experts.items())[:-1])
    config = config_of(None, seed, quick=options.quick)
    merge_experts(teachers, folder, config, resume=True, progress=Bars(console))
    return folder


def run_cell(
    arm: str, seed: int, experts: Mapping[str, LoadedPolicy], options: Options, console: Console
) -> dict[str, Any]:
    """Run a cell, or read its result."""
    config = config_of(arm, seed, quick=options.quick)
    slug = slug_of(arm)
    record = options.results / f"{slug}-{seed}.json"
    if record.exists():
        return read_json(record)
    student = first_student(experts, seed, options, console)
    folder, init, began = options.out / slug / str(seed), load_policy(student / "policy"), time.process_time()
    taught = list(experts.items())[-1:]
    if arm == "full":
        taught = [(str(student), init), *taught]
    old = [student] if config.protection != "none" else []
    result = merge_experts(
        teachers_from(taught), folder, config, init=init, old=old, resume=True, progress=Bars(console)
    )
    spent = time.process_time() - began
    figures = {
        "arm": arm,
        "seed": seed,
        "old": list(init.manifest.skills),
        "states": result.states,
        "merge_processor_seconds": spent,
        "config": as_plain(config),
        "command": command_of(options),
        "episodes": options.episodes,
        "student": measured(student, experts, options.episodes, seed),
        "skills": measured(folder, experts, options.episodes, seed),
    }
    prepare_folder(options.results)
    write_json(record, figures)
    shutil.rmtree(folder / "data")
    return figures


def slug_of(arm: str) -> str:
    """Return the name of an arm's folder and of its files."""
    return arm.replace(" %", "").replace(", ", "-").replace(" ", "-")


def files_of(seeds: int) -> list[str]:
    """Return the files of all arms with the seeds from 0, below benchmarks/results, in the order of the table."""
    return [f"old-worlds/{slug_of(arm)}-{seed}.json" for seed in range(seeds) for arm in ARMS]


def command_of(options: Options) -> str:
    """Return the command that repeats the cells, with the experts by their last two folders."""
    experts = experts_in_words(options.experts)
    return f"python {MARKER} --experts {experts} --episodes {options.episodes}"


def table_of(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return the Markdown table: retention of every skill per seed, and its 95 % interval over the tracks."""
    names = [f"{s.rpartition('/')[2]}{'' if s in cells[0]['old'] else ' (new)'}" for s in _skills(cells)]
    return markdown(("arm", "seed", "states", *names), rows_of(cells))


def _skills(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the skills in the order of the columns: the old ones, then the new one."""
    return sorted(cells[0]["skills"], key=lambda skill: skill not in cells[0]["old"])


def rows_of(cells: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the rows of the table: for every seed the student before, and then the arms."""
    rows, skills = [], _skills(cells)
    for seed in dict.fromkeys(cell["seed"] for cell in cells):
        of_seed = [cell for cell in cells if cell["seed"] == seed]
        rows.append(_row("before", of_seed[0]["seed"], None, of_seed[0]["student"], skills))
        rows += [_row(cell["arm"], seed, cell["states"], cell["skills"], skills) for cell in of_seed]
    return rows


def _row(arm: str, seed: int, states: int | None, found: Mapping[str, Any], skills: Sequence[str]) -> list[str]:
    cells = []
    for skill in skills:
        kept = found[skill]["retention"]
        cells.append("-" if kept is None else f"{kept[0]:.3f} ({kept[1]:.3f} to {kept[2]:.3f})")
    return [arm, str(seed), "" if states is None else f"{states:,}", *cells]


def main(options: Options) -> None:
    """Run the cells seed by seed, print the table, and write it.

    Raises:
        ConfigError: without experts and without a page to write, or for fewer than two experts.
        UnknownNameError: for an unknown arm.
        OutputError: for a page without the markers of this benchmark.
    """
    if options.write is None and len(options.experts) < 2:
        raise ConfigError("give at least two experts of one robot (--experts results/demo/experts/*), or --write PAGE")
    for arm in options.arms:
        config_of(arm, 0)
    console = Console()
    if options.experts:
        experts = load_named(list(options.experts))
        cells = [run_cell(arm, seed, experts, options, console) for seed in options.seeds for arm in options.arms]
        print(table_of(cells))
    if options.write is not None:
        order = list(ARMS)
        found = [read_json(path) for path in options.results.glob("*.json")]
        found.sort(key=lambda cell: (cell["seed"], order.index(cell["arm"])))
        write_between(options.write, MARKER, f"<!-- figures: old-worlds -->\n{table_of(found)}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
