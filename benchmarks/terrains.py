"""Experts trained from scratch on every terrain with several seeds, and evaluated on held-out tracks.

    python benchmarks/terrains.py --out results/terrains

Prints and saves wall time, environment steps and success on held-out tracks of every run. Runs are processes of one
thread each, one per usable core in parallel; the same command continues an interrupted benchmark.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from policykd.storage import prepare_folder, read_json, write_json
from policykd.threads import usable_cores


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    terrains: tuple[str, ...] = ("flat", "incline", "steps", "slopes", "gaps", "walls")
    """Terrains of the `paper` preset."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds."""
    steps: int = 3_000_000
    """Budget of a run, environment steps."""
    episodes: int = 256
    """Held-out tracks per run."""
    out: Path = Path("results/terrains")
    """Folder of the runs and of terrains.json."""


def train_and_measure(terrain: str, seed: int, options: Options) -> dict[str, Any]:
    """Return the results of one run, from its folder if it is finished."""
    from policykd.agents.files.policy_file import load_policy
    from policykd.agents.training import TrainConfig, train_expert
    from policykd.envs.skills import get_skill
    from policykd.evaluation import evaluate

    folder = options.out / f"{terrain}-{seed}"
    measured = folder / f"heldout-{options.episodes}.json"
    if measured.exists():
        return read_json(measured)
    skill = get_skill(f"biped/{terrain}")
    config = TrainConfig(steps=options.steps, seed=seed, threads=1)
    result = train_expert([skill], folder, config, resume=True)
    policy = load_policy(result.policy_path).policy
    evaluation = evaluate({"expert": policy}, [skill], episodes=options.episodes, seed=1000 + seed, threads=1)
    summary = evaluation.summaries["expert", skill.id]
    figures = {
        "terrain": terrain,
        "seed": seed,
        "steps": result.steps,
        "seconds": result.seconds,
        "failures": result.failures,
        "success": [summary.success.estimate, summary.success.low, summary.success.high],
        "reward_per_step": [
            summary.reward_per_step.estimate,
            summary.reward_per_step.low,
            summary.reward_per_step.high,
        ],
        "distance": summary.distance.estimate,
    }
    write_json(measured, figures)
    return figures


def show(rows: list[dict[str, Any]], options: Options) -> None:
    """Print the table."""
    table = Table(title=f"experts from scratch, {options.episodes} held-out tracks each, 95 % intervals")
    for heading in ("terrain", "seed", "steps", "wall s (1 thread)", "success", "reward per step", "distance m"):
        table.add_column(heading)
    for row in rows:
        success, reward = ("{:.3f} [{:.3f}, {:.3f}]".format(*row[name]) for name in ("success", "reward_per_step"))
        cells = (row["terrain"], row["seed"], f"{row['steps']:,}", f"{row['seconds']:.0f}", success, reward)
        table.add_row(*map(str, cells), f"{row['distance']:.1f}")
    Console(width=140).print(table)


def main(options: Options) -> None:
    """Run all unfinished runs, then print and save all results."""
    prepare_folder(options.out)
    jobs = [(terrain, seed) for seed in options.seeds for terrain in options.terrains]
    spawn = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(usable_cores(), mp_context=spawn) as pool:
        rows = [f.result() for f in [pool.submit(train_and_measure, t, s, options) for t, s in jobs]]
    rows.sort(key=lambda row: (options.terrains.index(row["terrain"]), row["seed"]))
    show(rows, options)
    write_json(options.out / "terrains.json", {"runs": rows, "episodes": options.episodes, "budget": options.steps})


if __name__ == "__main__":
    main(tyro.cli(Options))
