"""Ablation of the merge: changes one setting at a time, with several seeds, for given experts.

    python benchmarks/ablation.py --experts experts/flat experts/steps experts/gaps --seeds 3

Every cell is one small merge (about half a minute of processor time). The same command continues an interrupted
ablation; finished cells are not run again, also when seeds or axes are added.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from policykd.agents.architecture import Architecture
from policykd.agents.files.policy_file import LoadedPolicy, load_policy
from policykd.errors import ConfigError, UnknownNameError
from policykd.executor import Executor, Inline, Processes
from policykd.merge import MergeConfig, Teacher, merge_experts, teachers_from
from policykd.plain import as_plain
from policykd.progress import Progress, Silent
from policykd.storage import prepare_folder, read_json, write_json, write_text

BASE = MergeConfig(
    rounds=6,
    envs=32,
    updates=300,
    minibatch=768,
    validation_episodes=32,
    target_retention=2.0,
    critic="none",
    threads=1,
    architecture=Architecture(hidden=(128, 128)),
)
"""Base configuration, of which cells change one setting; it never stops early, so that all cells cost the same."""

_BETAS = ("exponential:0.5", "exponential:0.7", "linear", "plaid_paper:1500", "plaid_code")

AXES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "beta x mixing": {
        **{
            f"{beta}, per {mixing}": {"beta": beta, "mixing": mixing}
            for beta, mixing in itertools.product(_BETAS, ("episode", "step"))
        },
        "student only": {"beta": "constant:0"},
        "expert only": {"beta": "constant:1"},
    },
    "loss": {name: {"loss": name} for name in ("mse", "huber", "forward_kl", "reverse_kl", "jsd", "nll")},
    "student start": {name: {"start": name} for name in ("random", "newest", "previous")},
    "aggregation": {name: {"aggregation": name} for name in ("all", "last:2", "none")},
    "noise": {
        "none": {"noise_model": "none"},
        "gaussian 0.1": {"noise_model": "gaussian"},
        "gaussian 0.2": {"noise_model": "gaussian", "noise": 0.2},
        "dart 0.1": {"noise_model": "dart"},
        "dart 0.2": {"noise_model": "dart", "noise": 0.2},
    },
    "quota": {"equal": {"adaptive": 0.0}, "adaptive 0.5": {"adaptive": 0.5}},
    "support": {"all labels": {"support": None}, "within 8 sd": {"support": 8.0}, "within 5 sd": {"support": 5.0}},
}
"""Changed fields by axis and variant; ``plaid_paper`` ends within the run's 1800 gradient steps."""


@dataclass(frozen=True)
class Options:
    """Options of the ablation.

    Attributes:
        experts: policy files, or folders of training runs; at least two.
        seeds: number of seeds, counted from 0.
        axes: axes to run; by default all.
        workers: number of parallel processes.
        min_teacher_success: see ``policykd.merge.MergeConfig``.
        out: folder of the cells, ``ablation.json`` and ``ablation.md``.
        quick: two tiny rounds, as a smoke test.
    """

    experts: tuple[Path, ...]
    seeds: int = 3
    axes: tuple[str, ...] = tuple(AXES)
    workers: int = 1
    min_teacher_success: float = BASE.min_teacher_success
    out: Path = field(default=Path("results/benchmarks/ablation"))
    quick: bool = False


@dataclass(frozen=True)
class Cell:
    """One merge.

    Attributes:
        axis: name of the varied setting.
        variant: name of its value.
        config: configuration of the merge.
        experts: policies to merge.
        folder: folder of the merge.
    """

    axis: str
    variant: str
    config: MergeConfig
    experts: tuple[Path, ...]
    folder: Path


def cells_of(options: Options) -> list[Cell]:
    """Return all cells, seed by seed, so that an interrupted ablation has complete seeds.

    Raises:
        UnknownNameError: for an unknown axis.
        ConfigError: for fewer than two experts.
    """
    if len(options.experts) < 2:
        raise ConfigError("the ablation merges experts; give at least two with --experts")
    base = replace(BASE, min_teacher_success=options.min_teacher_success)
    if options.quick:
        base = replace(base, rounds=2, envs=2, updates=5, validation_episodes=2)
    cells = []
    for seed, axis in itertools.product(range(options.seeds), options.axes):
        if axis not in AXES:
            raise UnknownNameError("axis", axis, AXES)
        for variant, fields in AXES[axis].items():
            folder = options.out / "cells" / _name(axis) / _name(variant) / str(seed)
            cells.append(Cell(axis, variant, replace(base, seed=seed, **fields), options.experts, folder))
    return cells


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text)


def run_cell(cell: Cell, progress: Progress) -> dict[str, Any]:
    """Run a merge, or read its result: metrics of the last and the best round, and cost."""
    record = cell.folder / "cell.json"
    if not record.exists():
        cpu = time.process_time()
        teachers = teachers_from([(str(path), load_policy(path)) for path in cell.experts])
        init = _previous(teachers, cell) if cell.config.start == "previous" else None
        result = merge_experts(teachers, cell.folder / "merge", cell.config, init=init, resume=True)
        last = [json.loads(line) for line in (cell.folder / "merge" / "progress.jsonl").read_text().splitlines()][-1]
        figures = {
            "axis": cell.axis,
            "variant": cell.variant,
            "seed": cell.config.seed,
            "last_retention": last["retention"],
            "last_success": last["success"],
            "best_retention": result.retention,
            "states": result.states,
            "states_to_retention": result.states_to_retention,
            "masked": result.masked,
            "cpu_seconds": time.process_time() - cpu,
        }
        write_json(record, figures)
        for data in cell.folder.glob("*/data"):
            shutil.rmtree(data)
    progress.update("ablation", 1)
    return read_json(record)


def _previous(teachers: Sequence[Teacher], cell: Cell) -> LoadedPolicy:
    """Return the student of all experts but the last, from which the merge of all experts starts."""
    config = replace(cell.config, start="random")
    return load_policy(merge_experts(teachers[:-1], cell.folder / "previous", config, resume=True).policy_path)


def summary(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per variant: means and ranges over seeds."""
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        grouped.setdefault((cell["axis"], cell["variant"]), []).append(cell)
    rows = []
    for (axis, variant), group in grouped.items():
        least = [min(c["last_retention"].values()) for c in group]
        reached = [c["states_to_retention"]["0.95"] for c in group]
        found = [n for n in reached if n is not None]
        every = [statistics.mean(c["last_retention"].values()) for c in group]
        rows.append(
            {
                "axis": axis,
                "variant": variant,
                "seeds": len(group),
                "least retention": f"{statistics.mean(least):.3f} ({min(least):.3f} to {max(least):.3f})",
                "mean retention": f"{statistics.mean(every):.3f}",
                "least success": f"{statistics.mean(min(c['last_success'].values()) for c in group):.2f}",
                "of the best": f"{statistics.mean(min(c['best_retention'].values()) for c in group):.3f}",
                "states to 0.95": f"{statistics.median(found):,.0f} ({len(found)}/{len(group)})" if found else "never",
                "masked": f"{statistics.mean(statistics.mean(c['masked'].values()) for c in group):.1%}",
                "CPU s": f"{statistics.mean(c['cpu_seconds'] for c in group):.0f}",
            }
        )
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a Markdown table for docs/."""
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"| {' | '.join('---' for _ in names)} |"]
    lines += [f"| {' | '.join(str(row[name]) for name in names)} |" for row in rows]
    return "\n".join(lines) + "\n"


def main(options: Options, executor: Executor | None = None, progress: Progress = Silent()) -> None:
    """Run the cells, then save and print the table."""
    prepare_folder(options.out)
    cells = cells_of(options)
    executor = executor or (Inline() if options.workers == 1 else Processes(options.workers))
    progress.begin("ablation", len(cells), "cells")
    results = executor.map(run_cell, cells, progress)
    progress.end("ablation")
    rows = summary(results)
    write_json(options.out / "ablation.json", {"options": as_plain(options), "base": as_plain(BASE), "cells": results})
    write_text(options.out / "ablation.md", markdown(rows))
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=200).print(table)


if __name__ == "__main__":
    main(tyro.cli(Options))
