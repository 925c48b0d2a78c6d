"""Adam and K-FAC on the labeled states of a merge: loss on held-out simulations by gradient steps and processor time.

    python benchmarks/optimizers.py --data results/demo/student --seeds 0 1 2 --out benchmarks/results/optimizers.json

Every cell fits a new student to the same recorded states, with the step size falling along a cosine to a tenth within
its gradient steps, and the weights averaged, as in a merge. Processor time is that of the gradient steps, and of the
held-out loss after each quarter of them. Run it with OMP_NUM_THREADS=1 on an otherwise idle machine.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from policykd.environment import environment
from policykd.merge import MergeConfig, merge_data
from policykd.plain import as_plain
from policykd.progress import Silent
from policykd.storage import prepare_file, write_json

ROUNDS = 4
BASE = MergeConfig(rounds=ROUNDS, minibatch=512, averaging=0.998, critic="none", held_out=0.125)
ARMS = {
    "Adam, 0.001": replace(BASE, learning_rate=1e-3),
    "Adam, 0.002": replace(BASE, learning_rate=2e-3),
    "Adam, 0.004": replace(BASE, learning_rate=4e-3),
    "K-FAC, 0.01": replace(BASE, optimizer="kfac", step_length=0.01),
}
"""Settings by name; the number is the step size of Adam, the length of a step of K-FAC."""
HEAD = ("optimizer", "gradient steps", "held-out loss, mean of seeds (least to most)", "processor time, s")


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    data: Path
    """Folder of a merge, or of labeled states."""
    steps: tuple[int, ...] = (100, 400, 1600)
    """Gradient steps of the cells."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of networks and minibatches."""
    out: Path = Path("results/benchmarks/optimizers.json")
    """JSON file."""


class Stopwatch(Silent):
    """Takes the processor time between the first report and the last round."""

    def begin(self, name: str, total: int, unit: str) -> None:
        """Start."""
        self.began = time.process_time()

    def update(self, name: str, done: int, **figures: float) -> None:
        """Take the time of the rounds so far."""
        self.seconds = time.process_time() - self.began


def run_cell(name: str, steps: int, seed: int, data: Path) -> dict[str, Any]:
    """Return the loss of a new student on held-out simulations, mean over the skills, and its cost."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        config = replace(ARMS[name], updates=max(1, steps // ROUNDS), seed=seed)
        result = merge_data([data], Path(folder) / "student", config, progress=watch)
    loss = mean(result.held_out_loss.values())
    return {"optimizer": name, "steps": steps, "seed": seed, "loss": loss, "seconds": watch.seconds}


def rows_of(cells: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of the table: one per optimizer and number of steps."""
    rows = []
    for name, steps in dict.fromkeys((cell["optimizer"], cell["steps"]) for cell in cells):
        own = [cell for cell in cells if (cell["optimizer"], cell["steps"]) == (name, steps)]
        losses, seconds = [cell["loss"] for cell in own], mean(cell["seconds"] for cell in own)
        spread = f"{mean(losses):.5f} ({min(losses):.5f} to {max(losses):.5f})"
        rows.append((name, f"{steps:,}", spread, f"{seconds:.1f}"))
    return rows


def main(options: Options) -> None:
    """Run the cells, print and save."""
    prepare_file(options.out)
    cells = [
        run_cell(name, steps, seed, options.data)
        for name in ARMS for steps in options.steps for seed in options.seeds
    ]  # fmt: skip
    table = Table(*HEAD)
    for row in rows_of(cells):
        table.add_row(*row)
    Console().print(table)
    write_json(options.out, {
        "arms": {name: as_plain(config) for name, config in ARMS.items()}, "cells": cells,
        "environment": environment(("torch",)),
    })  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
