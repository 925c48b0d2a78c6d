"""Cost of merging: wall time of labeling with and without batching, and of a whole merge with samples-to-retention.

    python benchmarks/merge.py --experts experts/flat experts/steps experts/gaps

Labels: 2, 3, 5, 8 experts of one shape; if fewer are given, copies of them teach easier variants of their skills, so
that the work is that of the same number of distinct experts. Merge: the given experts.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from policykd.agents.files.policy_file import load_policy
from policykd.envs.batched_env import BatchedEnv
from policykd.envs.skills import Skill
from policykd.merge import MergeConfig, Teacher, merge_experts, teachers_from
from policykd.merge.labeling import Labeler
from policykd.plain import as_plain
from policykd.storage import prepare_folder, write_json
from policykd.threads import torch_threads


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        experts: policy files, or folders of training runs.
        counts: numbers of experts to label with.
        envs: simulations per expert.
        steps: number of labeled steps per measurement.
        repeats: measurements of every arm, in alternating order.
        merge: also run whole merges of the experts, one per seed.
        seeds: seeds of the merges.
        rounds: largest number of rounds of a merge.
        out: JSON file of the results.
        runs: folder of the merges; finished ones are not run again.
        quick: two repeats without a merge, as a smoke test.
    """

    experts: tuple[Path, ...]
    counts: tuple[int, ...] = (2, 3, 5, 8)
    envs: int = MergeConfig().envs
    steps: int = 256
    repeats: int = 9
    merge: bool = True
    seeds: tuple[int, ...] = (0,)
    rounds: int = 7
    out: Path = field(default=Path("results/benchmarks/merge.json"))
    runs: Path = field(default=Path("results/benchmarks/merge"))
    quick: bool = False


def several(teachers: Sequence[Teacher], count: int) -> list[Teacher]:
    """Return ``count`` distinct policies: the teachers, then copies of them."""
    turns = itertools.islice(itertools.cycle(teachers), count)
    return [replace(t, policy=copy.deepcopy(t.policy)) for t in turns]


def states_of(skill: Skill, envs: int) -> torch.Tensor:
    """Return observations of a skill after a few steps."""
    env = BatchedEnv([skill], envs, seed=0, threads=1)
    env.reset()
    for _ in range(4):
        step = env.step(torch.zeros(envs, env.num_actions))
    return step.flat


def seconds_of(work: Callable[[], Any], times: int) -> tuple[float, float]:
    """Measure wall and CPU seconds of calling ``work`` several times."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        work()
    return time.perf_counter() - wall, time.process_time() - cpu


@torch_threads(1)
def measure_labels(teachers: Sequence[Teacher], options: Options) -> dict[str, Any]:
    """Measure labeling of one round for each number of experts, one by one and batched, and the largest difference."""
    seen = {t.skill.id: states_of(t.skill, options.envs) for t in teachers}
    figures: dict[str, Any] = {}
    for count in options.counts:
        chosen = several(teachers, count)
        states = [seen[t.skill.id] for t in chosen]
        arms = {"one by one": Labeler(chosen, batched=False), "batched": Labeler(chosen, batched=True)}
        alone, together = (labeler(states) for labeler in arms.values())
        worst = max(float((a - b).abs().max()) for a, b in zip(alone, together, strict=True))
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
        for labeler in arms.values():
            seconds_of(partial(labeler, states), 10)  # warm up
        for _ in range(options.repeats):
            for name, labeler in arms.items():
                times[name].append(seconds_of(partial(labeler, states), options.steps))
        figures[str(count)] = {
            "largest_difference": worst,
            "wall_seconds": {name: [wall for wall, _ in values] for name, values in times.items()},
            "cpu_seconds": {name: [cpu for _, cpu in values] for name, values in times.items()},
        }
    return figures


def measure_merges(teachers: Sequence[Teacher], options: Options) -> dict[str, Any]:
    """Measure cost and retention of whole merges, by seed."""
    figures = {}
    for seed in options.seeds:
        config = MergeConfig(rounds=options.rounds, target_retention=0.98, seed=seed)
        cpu = time.process_time()
        result = merge_experts(teachers, options.runs / str(seed), config, resume=True)
        figures[str(seed)] = {**as_plain(result), "cpu_seconds_of_this_session": time.process_time() - cpu}
    return figures


def show(content: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    table = Table("experts", "one by one", "batched", "batched / one by one (CPU)", "largest difference")
    table.title = "labels of one round, median wall ms (CPU ms)"
    for count, row in content["labels"].items():
        wall, cpu = ({n: statistics.median(v) for n, v in row[k].items()} for k in ("wall_seconds", "cpu_seconds"))
        cells = [f"{wall[name] * 1e3:.0f} ({cpu[name] * 1e3:.0f})" for name in wall]
        ratio = cpu["batched"] / cpu["one by one"]
        table.add_row(count, *cells, f"{ratio:.2f}", f"{row['largest_difference']:.1e}")
    console.print(table)
    if not content["merges"]:
        return
    table = Table("seed", "rounds", "states", "wall s", "least retention", "states to 0.95", "states to 0.98")
    table.title = f"merge of {len(content['experts'])} experts"
    for seed, row in content["merges"].items():
        marks = ["-" if n is None else f"{n:,}" for n in row["states_to_retention"].values()]
        least = f"{min(row['retention'].values()):.3f}"
        table.add_row(seed, str(row["rounds"]), f"{row['states']:,}", f"{row['seconds']:.0f}", least, *marks)
    console.print(table)


def main(options: Options) -> None:
    """Measure, print and save."""
    if options.quick:
        options = replace(options, repeats=2, steps=32, merge=False)
    prepare_folder(options.out.parent)
    teachers = teachers_from([(str(path), load_policy(path)) for path in options.experts])
    labels = measure_labels(teachers, options)
    merges = measure_merges(teachers, options) if options.merge else {}
    content = {"experts": [t.skill.id for t in teachers], "options": as_plain(options)}
    content |= {"labels": labels, "merges": merges}
    write_json(options.out, content)
    show(content, Console(width=120))


if __name__ == "__main__":
    main(tyro.cli(Options))
