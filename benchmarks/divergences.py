"""Divergences: retention by loss, number of skills and width of the student, all else equal.

    python benchmarks/divergences.py --experts results/demo/experts/* --seeds 0 1 2 --workers 2
    python benchmarks/divergences.py --write docs/merging.md     # the table of all finished cells

A cell is one merge of the first N experts into a new student, and its evaluation on tracks that no validation used. All
cells have the same labeled states and gradient steps per skill and round, and none stops early. The same command
continues an interrupted run; finished cells are not run again. ``--quick`` is a smoke test and touches no result.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from cells import append_cell, experts_in_words, read_cells
from doc_figures.check import write_page
from doc_figures.control import DIVERGENCES_HEAD, LOSSES, divergences
from doc_tables import markdown
from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import load_named, load_policy, read_manifest
from policykd.agents.policy import Policy
from policykd.cli.output import Bars
from policykd.envs.skills import Skill, folder_names
from policykd.errors import ConfigError, UnknownNameError, check_range
from policykd.evaluation import evaluate
from policykd.executor import Executor, Inline, Processes
from policykd.merge import MergeConfig, Teacher, merge_experts, teachers_from
from policykd.merge.presets import merge_preset
from policykd.plain import as_plain
from policykd.progress import Progress, Silent
from policykd.stats import Interval, nested_ratio
from policykd.storage import prepare_folder, read_json, write_json

NAME = "benchmarks/divergences.py"
RESULTS = Path("benchmarks/results")
MARKS = ("0.95", "0.98")
"""Retentions whose labeled states a merge logs."""

SIZES = (1, 2, 5, 10)
"""Numbers of skills; those above the number of given experts are left out by default."""

BASE = replace(
    merge_preset("fast"), start="random", optimizer="adam", passes=0.0, updates=200, learning_rate=2e-3, adaptive=0.0,
    gap_memory=0.0, target_retention=2.0, critic="none", validation_episodes=4, threads=1,
)  # fmt: skip
"""Merge of every cell: the preset ``fast`` with a new student, Adam, equal shares of the skills, and a retention that
no student keeps, so that all rounds are run. The test that ends it has few episodes, because nothing is read from it.
"""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        experts: policy files, or folders of training runs, of one robot; a cell merges the first of them.
        losses: losses.
        skills: numbers of skills; by default those of 1, 2, 5 and 10 for which there are experts.
        units: units in each of the student's two hidden layers.
        seeds: seeds of the merges and of the tracks of the evaluations.
        rounds: rounds of every merge, of 2,000 labeled states per skill where episodes have 500 steps.
        episodes: tracks of every skill in an evaluation.
        workers: cells that run at once, each in a process of its own.
        quick: one tiny cell per loss, as a smoke test, with results of its own.
        out: folder of what cells share.
        results: file of the finished cells, one JSON object per line; their summary is written next to it, as JSON.
        write: page to write the table of all finished cells into; nothing is run without experts.
    """

    experts: tuple[Path, ...] = ()
    losses: tuple[str, ...] = tuple(LOSSES)
    skills: tuple[int, ...] = ()
    units: tuple[int, ...] = (32, 64, 256)
    seeds: tuple[int, ...] = (0, 1, 2)
    rounds: int = BASE.rounds
    episodes: int = 64
    workers: int = 1
    quick: bool = False
    out: Path = Path("results/benchmarks/divergences")
    results: Path = RESULTS / "divergences.jsonl"
    write: Path | None = None


@dataclass(frozen=True)
class Cell:
    """One merge and its evaluation.

    Attributes:
        experts: policies to merge.
        units: units in each hidden layer.
        config: the merge, with loss, architecture and seed.
        episodes: tracks of every skill in the evaluation.
        command: command that runs all cells.
        folder: folder of the experts' outcomes.
    """

    experts: tuple[Path, ...]
    units: int
    config: MergeConfig
    episodes: int
    command: str
    folder: Path

    @property
    def key(self) -> tuple[str, int, int, int]:
        """Loss, number of skills, units and seed."""
        return self.config.loss, len(self.experts), self.units, self.config.seed


def key_of(stored: Mapping[str, Any]) -> tuple[str, int, int, int]:
    """Return the :attr:`Cell.key` of a finished cell."""
    return stored["loss"], stored["skills"], stored["units"], stored["seed"]


def config_of(loss: str, units: int, seed: int, rounds: int = BASE.rounds, *, quick: bool = False) -> MergeConfig:
    """Return the merge of a cell.

    Raises:
        UnknownNameError: for a loss that the table does not compare.
    """
    if loss not in LOSSES:
        raise UnknownNameError("loss", loss, LOSSES)
    check_range("units", units, 1, 4096)
    layers = (units, units)
    architecture = Architecture(hidden=layers, critic_hidden=layers)
    config = replace(BASE, loss=loss, seed=seed, rounds=rounds, architecture=architecture)
    if quick:
        return replace(
            config, rounds=2, envs=1, updates=5, minibatch=64, validation_episodes=1, min_teacher_success=0.0
        )
    return config


def cells_of(options: Options) -> list[Cell]:
    """Return all cells, seed by seed, so that an interrupted run has complete seeds.

    Raises:
        ConfigError: for more skills than experts.
        UnknownNameError: for an unknown loss.
    """
    most = len(options.experts)
    sizes = options.skills or tuple(size for size in SIZES if size <= most)
    for size in sizes:
        if not 1 <= size <= most:
            raise ConfigError(f"skills is {size}, with {most} experts; give 1 to {most}, or more experts (--experts)")
    episodes = 2 if options.quick else options.episodes
    grid = itertools.product(options.seeds, sizes, options.units, options.losses)
    return [
        Cell(options.experts[:size], units, config_of(loss, units, seed, options.rounds, quick=options.quick), episodes,
             command_of(options), options.out)
        for seed, size, units, loss in grid
    ]  # fmt: skip


def command_of(options: Options) -> str:
    """Return the command that repeats the cells."""
    seeds = " ".join(map(str, options.seeds))
    numbers = f"--seeds {seeds} --rounds {options.rounds} --episodes {options.episodes}"
    return f"python {NAME} --experts {experts_in_words(options.experts)} {numbers}"


def run_cell(cell: Cell, progress: Progress) -> dict[str, Any]:
    """Merge and evaluate."""
    teachers = teachers_from(list(load_named(list(cell.experts)).items()))
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        result = merge_experts(teachers, Path(folder) / "merge", cell.config)
        spent = time.process_time() - began
        student = load_policy(Path(folder) / "merge")
    found = {t.skill.id: episodes_of(student.policy, t, cell) for t in teachers}
    loss, skills, units, seed = cell.key
    return {
        "loss": loss,
        "skills": skills,
        "units": units,
        "seed": seed,
        "experts": [t.weights_sha256[:16] for t in teachers],
        "settings": settings_of(cell),
        "states": result.states,
        "states_to_retention": result.states_to_retention,
        "merge_processor_seconds": round(spent, 1),
        "reward_per_step": {skill: pair["reward_per_step"] for skill, pair in found.items()},
        "success": {skill: pair["success"] for skill, pair in found.items()},
        "command": cell.command,
    }


def episodes_of(student: Policy, teacher: Teacher, cell: Cell) -> dict[str, dict[str, Any]]:
    """Return rewards per step of every episode, and success rates, of student and expert on the same tracks."""
    pair = {"student": outcomes_of(student, teacher.skill, cell), "expert": expert_outcomes(teacher, cell)}
    return {name: {who: one[name] for who, one in pair.items()} for name in ("reward_per_step", "success")}


def expert_outcomes(teacher: Teacher, cell: Cell) -> dict[str, Any]:
    """Return the outcomes of an expert, which all cells of a seed share: read from a file if a cell wrote it before."""
    (slug,) = folder_names([teacher.skill])
    name = f"{slug}-{teacher.weights_sha256[:16]}-{cell.episodes}-{cell.config.seed}.json"
    if not (cell.folder / name).exists():
        prepare_folder(cell.folder)
        write_json(cell.folder / name, outcomes_of(teacher.policy, teacher.skill, cell))
    return read_json(cell.folder / name)


def outcomes_of(policy: Policy, skill: Skill, cell: Cell) -> dict[str, Any]:
    """Return rewards per step and the success rate on the tracks of a cell."""
    found = evaluate({"policy": policy}, [skill], episodes=cell.episodes, seed=cell.config.seed, threads=1)
    outcomes = found.cells["policy", skill.id]
    rewards = [round(reward, 5) for reward in outcomes.reward_per_step]
    return {"reward_per_step": rewards, "success": sum(outcomes.success) / cell.episodes}


def settings_of(cell: Cell) -> dict[str, Any]:
    """Return the settings that all cells of a table have in common."""
    names = ("rounds", "envs", "updates", "minibatch", "learning_rate", "averaging", "noise")
    return {"episodes": cell.episodes, **{name: getattr(cell.config, name) for name in names}}


def expert_hashes(cell: Cell) -> list[str]:
    """Return the beginnings of the hashes of the experts' weights."""
    return [read_manifest(path).weights_sha256[:16] for path in cell.experts]


def check_same(stored: Sequence[Mapping[str, Any]], cells: Sequence[Cell], results: Path) -> None:
    """Raise ConfigError if finished cells have other settings or experts than those to run."""
    wanted = {cell.key: cell for cell in cells}
    for one in stored:
        if (cell := wanted.get(key_of(one))) is None:
            continue
        for name, value in {"settings": settings_of(cell), "experts": expert_hashes(cell)}.items():
            if one[name] != value:
                raise ConfigError(
                    f"{results} holds cells with {name} {one[name]}, not {value}; give the same, or another file "
                    f"(--results)"
                )


def summary(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one row per number of skills, width and loss: retentions with intervals, and states to a retention."""
    order = list(LOSSES)
    grid = sorted({key_of(cell)[:3] for cell in cells}, key=lambda one: (one[1], one[2], order.index(one[0])))
    rows = []
    for group in grid:
        own = [cell for cell in cells if key_of(cell)[:3] == group]
        reached = {mark: [n for cell in own if (n := cell["states_to_retention"][mark]) is not None] for mark in MARKS}
        rows.append(
            {
                **dict(zip(("loss", "skills", "units"), group, strict=True)),
                "seeds": len(own),
                "weakest_retention": as_plain(weakest_retention(own)),
                "mean_retention": as_plain(mean_retention(own)),
                "states_to_retention": reached,
            }
        )
    return {"command": cells[-1]["command"], "settings": cells[-1]["settings"], "rows": rows}


def mean_retention(cells: Sequence[Mapping[str, Any]]) -> Interval:
    """Return the mean retention over skills and seeds, with its interval over seeds and episodes.

    Args:
        cells: one cell per seed.
    """
    return nested_ratio(*_rewards(cells))


def weakest_retention(cells: Sequence[Mapping[str, Any]]) -> Interval:
    """Return the mean over seeds of the weakest skill's retention, with its interval over seeds and episodes.

    The skill is each seed's weakest on all of its episodes; resampled episodes do not choose another, which would lower
    the interval.

    Args:
        cells: one cell per seed.
    """
    student, expert = _rewards(cells)
    least = (student.mean(axis=2) / expert.mean(axis=2)).argmin(axis=1)
    seeds = np.arange(len(cells))
    return nested_ratio(student[seeds, least][:, None], expert[seeds, least][:, None])


def _rewards(cells: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return (seeds, skills, episodes) rewards per step of student and expert."""
    pairs = [list(cell["reward_per_step"].values()) for cell in cells]
    student, expert = (np.array([[skill[name] for skill in pair] for pair in pairs]) for name in ("student", "expert"))
    return student, expert


def main(options: Options, executor: Executor | None = None) -> None:
    """Run the cells that are missing, print the table, and write it.

    Raises:
        ConfigError: without experts and without a page to write, or for results of other settings or experts.
        UnknownNameError: for an unknown loss.
        OutputError: for a page without the mark of the table.
    """
    if not options.experts and options.write is None:
        raise ConfigError(
            "give the experts of one robot (--experts results/demo/experts/*), or --write docs/merging.md"
        )
    if options.quick:
        options = replace(
            options, results=options.out / "quick.jsonl", skills=(1,), seeds=(0,), units=options.units[:1]
        )
    if options.experts:
        run_missing(options, executor or (Inline() if options.workers == 1 else Processes(options.workers)))
        content = summary(read_cells(options.results))
        write_json(options.results.with_suffix(".json"), content)
        print(markdown(DIVERGENCES_HEAD, divergences(content)))
    if options.write is not None:
        write_page(options.write, "divergences", RESULTS)


def run_missing(options: Options, executor: Executor) -> None:
    """Run the cells without a result, and append each result as soon as it is known."""
    cells, stored = cells_of(options), read_cells(options.results)
    check_same(stored, cells, options.results)
    known = {key_of(one) for one in stored}
    missing, progress = [cell for cell in cells if cell.key not in known], Bars(Console())
    done = itertools.count(1)

    def keep(result: dict[str, Any]) -> None:
        append_cell(options.results, result)
        progress.update(NAME, next(done))

    progress.begin(NAME, len(missing), "cells")
    if missing:
        executor.map(run_cell, missing, Silent(), keep)
    progress.end(NAME, f"{len(missing)} cells run, {len(cells) - len(missing)} were known")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
