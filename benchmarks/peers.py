"""Policykd's merge against its peers: the same experts, simulation, labeled states, gradient steps and student size.

    python benchmarks/peers.py --experts results/demo/experts/flat results/demo/experts/* --seeds 5
    python benchmarks/peers.py --table docs/peers.md          # writes the table from the cells

One JSON file per method and seed; finished ones are not run again. Methods of other libraries run their own code and
need them installed (docs/peers.md says how); a method whose library is missing is left out with a message.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro

from peer_libraries import LIBRARIES
from peer_methods import distill_proximally, merge_weights_by, merge_with_policykd, train_jointly
from peer_trial import MARKS, Budget, Trial
from policykd.environment import environment
from policykd.evaluation import evaluate
from policykd.plain import as_plain
from policykd.storage import read_json, write_json, write_text

Method = Callable[[Trial], None]

METHODS: dict[str, Method] = {
    "policykd merge": partial(merge_with_policykd, "adam"),
    "policykd merge with K-FAC": partial(merge_with_policykd, "kfac"),
    **{name: function for name, (function, _, _) in LIBRARIES.items()},
    "proximal policy distillation": distill_proximally,
    "parameter averaging": partial(merge_weights_by, "average"),
    "task arithmetic": partial(merge_weights_by, "task-arithmetic"),
    "joint PPO": train_jointly,
}
_BEGIN, _END = "<!-- peers: begin -->", "<!-- peers: end -->"


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        experts: policy files, or folders of training runs, the common ancestor first.
        methods: methods; empty for all.
        seeds: number of seeds, from ``first_seed``.
        first_seed: first seed.
        budget: what every method may use.
        held_out: episodes per skill of the last evaluation, on tracks that no method saw.
        out: folder of the cells.
        table: write the table of the finished cells between two marks of this file, and run nothing.
    """

    experts: tuple[Path, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: int = 5
    first_seed: int = 0
    budget: Budget = field(default_factory=Budget)
    held_out: int = 64
    out: Path = Path("benchmarks/results/peers")
    table: Path | None = None


def run_cell(name: str, seed: int, options: Options) -> dict[str, Any]:
    """Run a method with a seed, and return its curve and its last evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(options.experts, options.budget, seed, Path(folder))
        began = time.perf_counter(), time.process_time()
        METHODS[name](trial)
        spent = {"seconds": time.perf_counter() - began[0], "cpu_seconds": time.process_time() - began[1]}
        summaries, own = {}, {}
        for teacher in trial.teachers:
            skill, pair = teacher.skill, {"expert": teacher.policy, "student": trial.best}
            found = evaluate(
                pair, [skill], episodes=options.held_out, seed=1000 + seed, threads=1, experts={skill.id: "expert"}
            )
            summaries[skill.id], own[skill.id] = (found.summaries[name, skill.id] for name in ("student", "expert"))
    return {
        "method": name, "seed": seed, "budget": as_plain(options.budget), "states": trial.states, **spent,
        "curve": trial.curve,
        "states_to": {str(m): next((r["states"] for r in trial.curve if m in r["marks"]), None) for m in MARKS},
        "retention": {skill: as_plain(s.retention) for skill, s in summaries.items()},
        "success": {skill: as_plain(s.success) for skill, s in summaries.items()},
        "success_of_experts": {skill: as_plain(s.success) for skill, s in own.items()},
        "environment": environment(("torch", "mujoco", "stable-baselines3", "rsl-rl-lib", "imitation")),
    }  # fmt: skip


def missing(name: str) -> str:
    """Return the distribution that a method needs and this environment lacks; empty if it can run."""
    _, module, distribution = LIBRARIES.get(name, (None, "", ""))
    return distribution if module and importlib.util.find_spec(module) is None else ""


def cells(folder: Path) -> list[dict[str, Any]]:
    """Return the finished cells in a folder."""
    return [read_json(path) for path in sorted(folder.glob("*.json"))]


def weakest(cell: dict[str, Any], figure: str) -> float:
    """Return the least mean of a figure over the skills; a retention that is not defined counts as 0."""
    return min(0.0 if value is None else float(value["estimate"]) for value in cell[figure].values())


def spread(values: list[float], digits: int = 3) -> str:
    """Return the mean and, of several values, the smallest and the largest."""
    mean = f"{statistics.mean(values):,.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def first_states(found: list[dict[str, Any]], mark: float) -> str:
    """Return the mean states after which a retention was reached, and in how many seeds it was."""
    reached = [c["states_to"][str(mark)] for c in found if c["states_to"][str(mark)] is not None]
    return f"{statistics.mean(reached):,.0f} ({len(reached)} of {len(found)})" if reached else f"- (0 of {len(found)})"


def markdown(found: list[dict[str, Any]]) -> str:
    """Return the table of the cells."""
    head = ("method", "seeds", "states", *(f"states to {mark}" for mark in MARKS), "weakest skill: retention",
            "weakest skill: success", "processor s")  # fmt: skip
    rows = [head, ("---",) * len(head)]
    for name in METHODS:
        own = [cell for cell in found if cell["method"] == name]
        if own:
            marks = [first_states(own, mark) for mark in MARKS]
            figures = [spread([weakest(cell, figure) for cell in own]) for figure in ("retention", "success")]
            spent = spread([cell["cpu_seconds"] for cell in own], 0)
            rows.append((name, str(len(own)), f"{own[0]['states']:,}", *marks, *figures, spent))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_table(page: Path, found: list[dict[str, Any]]) -> None:
    """Replace the table between the marks of a page."""
    before, _, rest = page.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    write_text(page, f"{before}{_BEGIN}\n{markdown(found)}\n{_END}{after}")


def main(options: Options) -> None:
    """Run the cells that are missing, or write the table."""
    if options.table is not None:
        write_table(options.table, cells(options.out))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.methods or METHODS:
            path = options.out / f"{name.replace(' ', '-')}-{seed}.json"
            if path.exists():
                continue
            if need := missing(name):
                print(f"{name} needs the package {need}; left out")
                continue
            write_json(path, run_cell(name, seed, options))
            print(markdown(cells(options.out)), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
