"""Merges in seconds: seconds by phase, labeled states, and retention on tracks that no validation used.

    python benchmarks/merge_seconds.py --experts results/demo/experts/* --seeds 0 1 2
    python benchmarks/merge_seconds.py --experts results/demo-biped/experts/* --seeds 0 1 2
    python benchmarks/merge_seconds.py --write docs/merging.md     # the table of all finished merges

A cell is one merge with a preset and its evaluation. The same command continues an interrupted run; finished cells are
not run again. Run it on an otherwise idle machine: seconds are wall time. A first, unmeasured merge of one round
compiles and loads what every later one finds.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from cells import experts_in_words
from doc_tables import markdown, write_between
from policykd.agents.files.policy_file import LoadedPolicy, load_named
from policykd.agents.files.skills import skills_for
from policykd.cli.commands.evaluate import expert_of
from policykd.cli.output import Bars
from policykd.cli.overrides import with_overrides
from policykd.errors import ConfigError
from policykd.evaluation import evaluate
from policykd.merge import MergeConfig, MergeResult, merge_experts, teachers_from
from policykd.merge.presets import merge_preset
from policykd.plain import as_plain
from policykd.storage import prepare_folder, read_json, write_json

MARKER = "benchmarks/merge_seconds.py"


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        experts: policy files, or folders of training runs, of one robot.
        preset: settings of the merges.
        set: changed settings, for example rounds=8.
        name: name of these settings in the table; default the preset's.
        seeds: seeds of the merges.
        episodes: tracks of every skill in the evaluation.
        quick: one tiny merge, as a smoke test.
        out: folder of the merges.
        results: folder of one JSON file per cell.
        write: page to write the table of all finished cells into; nothing is run without experts.
    """

    experts: tuple[Path, ...] = ()
    preset: str = "fast"
    set: tuple[str, ...] = ()
    name: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    episodes: int = 256
    quick: bool = False
    out: Path = Path("results/benchmarks/merge-seconds")
    results: Path = Path("benchmarks/results/merge-seconds")
    write: Path | None = None


def config_of(options: Options, seed: int) -> MergeConfig:
    """Return the merge of a cell."""
    config = with_overrides(replace(merge_preset(options.preset), seed=seed), options.set)
    if options.quick:
        return replace(
            config, rounds=2, envs=2, passes=0.0, updates=5, minibatch=64, validation_episodes=2,
            min_teacher_success=0.0,
        )  # fmt: skip
    return config


def run_cell(experts: Mapping[str, LoadedPolicy], seed: int, options: Options, console: Console) -> dict[str, Any]:
    """Run a cell, or read its result."""
    teachers = teachers_from(list(experts.items()))
    robot, name = teachers[0].skill.robot.name, options.name or options.preset
    record = options.results / f"{robot}-{name}-{seed}.json"
    if record.exists():
        return read_json(record)
    folder = options.out / robot / name / str(seed)
    result = merge_experts(teachers, folder, config_of(options, seed), resume=True, progress=Bars(console))
    figures = {
        "robot": robot,
        "settings": name,
        "seed": seed,
        "command": command_of(options),
        "config": as_plain(config_of(options, seed)),
        **figures_of(result),
        "episodes": options.episodes,
        "skills": measured(folder, experts, options.episodes, seed),
    }
    prepare_folder(options.results)
    write_json(record, figures)
    shutil.rmtree(folder / "data")
    return figures


def figures_of(result: MergeResult) -> dict[str, Any]:
    """Return cost, and retention in the test that ended the merge."""
    return {
        "states": result.states,
        "rounds": result.rounds,
        "seconds": result.seconds,
        "phase_seconds": result.phase_seconds,
        "reached_target": result.reached_target,
        "states_to_retention": result.states_to_retention,
        "confirmed_retention": result.retention,
        "history": result.history,
    }


def measured(folder: Path, experts: Mapping[str, LoadedPolicy], episodes: int, seed: int) -> dict[str, Any]:
    """Return success and retention of a student per skill, each with its interval, on tracks of the evaluation."""
    (student,) = load_named([folder]).values()
    skills = skills_for([one.manifest for one in (student, *experts.values())])
    measured = {}
    for skill in skills:  # each with its own expert only: the others' figures are not wanted
        name = expert_of(dict(experts))[skill.id]
        policies = {"student": student.policy, name: experts[name].policy}
        found = evaluate(policies, [skill], episodes=episodes, seed=seed, experts={skill.id: name})
        measured[skill.id] = _interval(found.summaries["student", skill.id])
    return measured


def _interval(summary: Any) -> dict[str, Any]:
    pairs = ((name, getattr(summary, name)) for name in ("success", "retention"))
    return {name: None if one is None else [one.estimate, one.low, one.high] for name, one in pairs}


def command_of(options: Options) -> str:
    """Return the command that repeats the cells, with the experts by their last two folders."""
    experts = experts_in_words(options.experts)
    changed = f" --set {' '.join(options.set)}" if options.set else ""
    return f"python {MARKER} --experts {experts} --preset {options.preset}{changed} --episodes {options.episodes}"


HEAD = ("robot, settings", "seed", "wall time, s", "collection, fitting, validation, s", "labeled states",
        "weakest skill: retention", "retention of every skill")  # fmt: skip


def row_of(cell: Mapping[str, Any]) -> list[str]:
    """Return the table's row of a cell; retention with its 95 % interval."""
    kept = {skill: figures["retention"] for skill, figures in cell["skills"].items()}
    weakest = min(kept, key=lambda skill: kept[skill][0])
    estimate, low, high = kept[weakest]
    phases = ", ".join(f"{value:.1f}" for value in cell["phase_seconds"].values())
    every = ", ".join(f"{skill.rpartition('/')[2]} {value[0]:.3f}" for skill, value in kept.items())
    return [
        f"{cell['robot']}, {cell['settings']}", str(cell["seed"]), f"{cell['seconds']:.1f}", phases,
        f"{cell['states']:,}", f"{weakest.rpartition('/')[2]} {estimate:.3f} ({low:.3f} to {high:.3f})", every,
    ]  # fmt: skip


def table_of(cells: Sequence[Mapping[str, Any]]) -> str:
    """Return the Markdown table of cells."""
    return markdown(HEAD, [row_of(cell) for cell in cells])


def files_of(name: str, seeds: int) -> list[str]:
    """Return the files of a robot's cells with the seeds from 0, below benchmarks/results."""
    return [f"merge-seconds/{name}-{seed}.json" for seed in range(seeds)]


def warm_up(experts: Mapping[str, LoadedPolicy], options: Options) -> None:
    """Run one tiny merge that is not measured."""
    config = replace(config_of(replace(options, quick=True), 0), rounds=1)
    with tempfile.TemporaryDirectory() as folder:
        merge_experts(teachers_from(list(experts.items())), Path(folder) / "warm-up", config)


def main(options: Options) -> None:
    """Run the cells, print the table, and write it.

    Raises:
        ConfigError: without experts and without a page to write.
        OutputError: for a page without the markers of this benchmark.
    """
    if not options.experts and options.write is None:
        raise ConfigError(
            "give the experts of one robot (--experts results/demo/experts/*), or --write docs/merging.md"
        )
    console = Console()
    if options.experts:
        experts = load_named(list(options.experts))
        warm_up(experts, options)
        print(table_of([run_cell(experts, seed, options, console) for seed in options.seeds]))
    if options.write is not None:
        cells = [read_json(path) for path in sorted(options.results.glob("*.json"))]
        write_between(options.write, MARKER, f"<!-- figures: merge-seconds -->\n{table_of(cells)}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
