"""Cells: one method on one seed, with equally many candidate settings, chosen on validation data alone.

It trains and measures through ``Distiller`` and writes one file per cell; tables and verdicts are made elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from policykd.errors import ConfigError, OutputError
from policykd.kd.benchmark.config import BenchConfig
from policykd.kd.benchmark.measures import MEASURES
from policykd.kd.benchmark.placements import objective
from policykd.kd.benchmark.seed_context import SeedContext, load_seed_context
from policykd.kd.benchmark.settings import Setting, candidates
from policykd.kd.metrics import figures
from policykd.kd.objective.objective import Objective
from policykd.kd.training.distiller import Distiller
from policykd.kd.training.evaluate import predict
from policykd.plain import as_plain
from policykd.progress import Progress
from policykd.storage import read_json, write_json
from policykd.threads import torch_threads


@dataclass(frozen=True)
class CellJob:
    """One cell to run."""

    config: BenchConfig
    method: str
    seed: int
    folder: Path

    @property
    def path(self) -> Path:
        """Where the cell is saved."""
        return self.folder / "cells" / f"{self.method.replace(':', '-')}-seed{self.seed}.json"


def run_cell(job: CellJob, progress: Progress) -> None:
    """Run one cell on one thread and save it whole."""
    name = f"{job.method}, seed {job.seed}"
    progress.begin(name, job.config.tune, "settings")
    with torch_threads(1):
        context = load_seed_context(job.config, job.seed, job.folder)
        cell = measure(context, job.method, lambda done: progress.update(name, done))
    write_json(job.path, {"method": job.method, "seed": job.seed, **cell})
    progress.end(name)


def measure(context: SeedContext, method: str, report: Callable[[int], None] = lambda done: None) -> dict[str, Any]:
    """Train every candidate, choose by validation accuracy, measure the chosen student on test data.

    A tie goes to the lower validation loss, then to the earlier candidate.

    Args:
        context: The seed.
        method: The method.
        report: Is told how many candidates are done.

    Returns:
        ``candidates`` (setting, validation figures, times), ``chosen`` (position) and ``test``.

    Raises:
        ConfigError: A training diverged.
    """
    tried: list[dict[str, Any]] = []
    best: nn.Module | None = None
    chosen, highest = 0, (-1.0, 0.0)
    for place, setting in enumerate(candidates(method, context.config.tune)):
        student, times = train(context, method, setting)
        val = figures(*predict(student, context.task.val), context.taught_val)
        tried.append({"setting": as_plain(setting), "val": val, **times})
        score = (val["accuracy"], -val["nll"])
        if best is None or score > highest:
            best, chosen, highest = student, place, score
        report(place + 1)
    assert best is not None
    test = figures(*predict(best, context.task.test), context.taught_test)
    seconds = tried[chosen]["seconds_per_epoch"]
    return {"chosen": chosen, "test": {**test, "seconds_per_epoch": seconds}, "candidates": tried}


def train(context: SeedContext, method: str, setting: Setting) -> tuple[nn.Module, dict[str, float]]:
    """Train the seed's student by a method.

    Returns:
        The student in eval mode; wall time in all (``seconds``); processor time, which other work on the machine hardly
        changes, before the first epoch (``seconds_prepared``) and of one epoch (``seconds_per_epoch``).

    Raises:
        ConfigError: The training diverged.
    """
    began, marks, config = time.perf_counter(), [time.process_time()], context.training(setting.lr_factor)
    student = context.student()
    terms = objective(method, context.placement_context(), setting, config.epochs)
    run = Distiller(student, _teacher(context, terms), terms, config)
    marks.append(time.process_time())
    try:
        run.fit(context.task.train, context.task.val if config.select == "best" else None)
    except FloatingPointError as error:
        raise _diverged(context, method, str(error)) from None
    marks.append(time.process_time())
    student = run.export()
    if not _finite(student):
        raise _diverged(context, method, "a weight is not finite")
    return student, {
        "seconds": time.perf_counter() - began,
        "seconds_prepared": marks[1] - marks[0],
        "seconds_per_epoch": (marks[2] - marks[1]) / config.epochs,
    }


def _teacher(context: SeedContext, terms: Objective) -> Any:
    """What the teacher said about the training data, as far as the terms ask; None where no term has a teacher."""
    return context.teaching(terms.teacher_taps) if terms.needs_teacher else None


def _finite(student: nn.Module) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in student.state_dict().values())


def _diverged(context: SeedContext, method: str, what: str) -> ConfigError:
    return ConfigError(
        f"{method} diverged on seed {context.seed} ({what}); lower train.optimizer.lr or leave the method out"
    )


def load_cell(job: CellJob) -> Mapping[str, Any]:
    """A saved cell.

    Raises:
        OutputError: It is damaged, or of another method, seed or budget.
    """
    cell = read_json(job.path)
    try:
        fits = (cell["method"], cell["seed"], len(cell["candidates"])) == (job.method, job.seed, job.config.tune)
        whole = fits and 0 <= cell["chosen"] < job.config.tune and set(MEASURES) <= set(cell["test"])
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise OutputError(f"{job.path} is not the cell of {job.method}, seed {job.seed}; delete it to run it again")
    return cell
