"""What an executor costs: seconds per job, a comparison of six cells on each, and a simulated schedule of many jobs.

    python benchmarks/executors.py                                  # inline, processes, ray and local, as installed
    python benchmarks/executors.py --kinds inline processes

Results of the six cells must be equal on all executors. The overhead is the slope of wall time over the number of empty
jobs with two workers; the schedule is simulated from it. ``local`` is submitit's executor without a cluster: it starts
a process per job, and leaves out the queue of Slurm.
"""

from __future__ import annotations

import heapq
import importlib.util
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from policykd.curriculum import preset
from policykd.curriculum.comparison import run_comparison
from policykd.environment import environment
from policykd.executors import make_executor
from policykd.progress import Progress, Silent
from policykd.storage import prepare_folder, read_json, write_json

NEEDS = {"inline": None, "processes": None, "ray": "ray", "local": "submitit"}
EMPTY_JOBS = {"inline": (10, 100, 1000), "processes": (4, 4000, 16_000), "ray": (4, 100, 400), "local": (2, 6, 12)}
CURRICULA = ("plaid", "tl-only", "multitasker")


@dataclass(frozen=True)
class Options:
    """Options of the measurement.

    Attributes:
        kinds: executors; those whose package is missing are left out, and named.
        workers: jobs at a time.
        steps: environment steps of every skill of the comparison.
        out: JSON file of the figures; figures that it holds are kept.
    """

    kinds: tuple[str, ...] = tuple(NEEDS)
    workers: int = 2
    steps: int = 16_384
    out: Path = Path("benchmarks/results/executors.json")


def do_nothing(job: int, progress: Progress) -> int:
    """Return the job."""
    return job


def overhead(kind: str, workers: int) -> dict[str, Any]:
    """Return the wall time of some numbers of empty jobs, and the line through them."""
    rows = []
    for count in EMPTY_JOBS[kind]:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            results = make_executor(kind, workers, Path(folder)).map(do_nothing, list(range(count)), Silent())
            rows.append([count, time.perf_counter() - began])
        if results != list(range(count)):
            raise RuntimeError(f"{kind} returned other results than those of its jobs")
    slope, start = np.polyfit(*np.array(rows).T, 1)
    return {"jobs_and_seconds": rows, "seconds_per_job": max(float(slope), 0.0), "seconds_to_start": float(start)}


def compare_cells(kind: str, workers: int, steps: int) -> dict[str, Any]:
    """Return wall time and values of a comparison of three curricula over two seeds."""
    usual = preset("quick")
    recipe = replace(
        usual,
        skills=tuple(replace(plan, steps=steps) for plan in usual.skills[:2]),
        train=replace(usual.train, validation_episodes=4, finalists=1),
        merge=replace(usual.merge, rounds=2, envs=4, updates=50, validation_episodes=4),
        measurement=replace(usual.measurement, episodes=4),
    )
    with tempfile.TemporaryDirectory() as folder:
        out, began = Path(folder) / "comparison", time.perf_counter()
        executor = make_executor(kind, workers, out)
        run_comparison(recipe, out, curricula=CURRICULA, seeds=2, threads=workers, executor=executor)
        seconds = time.perf_counter() - began
        runs = read_json(out / "comparison.json")["runs"]
    values = [{key: value for key, value in run.items() if "seconds" not in key} for run in runs]
    return {"seconds": seconds, "values": values}


def makespan(durations: np.ndarray, workers: int, seconds_per_job: float) -> float:
    """Return the end of the last job if each goes to the first free worker, and one process hands them out in turn."""
    free, handed = [0.0] * workers, 0.0
    heapq.heapify(free)
    end = 0.0
    for duration in durations:
        handed = max(handed, free[0]) + seconds_per_job
        done = handed + duration
        heapq.heapreplace(free, done)
        end = max(end, done)
    return end


def schedules(seconds_per_job: float) -> list[dict[str, float]]:
    """Return simulated schedules: a thousand experts of about 100 s, ten thousand cells of about 10 s."""
    rng, rows = np.random.default_rng(0), []
    for jobs, mean in ((1000, 100.0), (10_000, 10.0)):
        durations = mean * rng.lognormal(-0.5 * 0.4**2, 0.4, jobs)
        for workers in (2, 64, 512):
            end = makespan(durations, workers, seconds_per_job)
            share = float(durations.sum() / workers / end)
            rows.append({"jobs": jobs, "mean_seconds": mean, "workers": workers, "seconds": end, "efficiency": share})
    return rows


def main(options: Options) -> None:
    """Measure what is missing."""
    fresh = {"environment": environment(("torch", "ray", "submitit")), "kinds": {}}
    content = read_json(options.out) if options.out.exists() else fresh
    prepare_folder(options.out.parent)
    for kind in options.kinds:
        needed = NEEDS[kind]
        if needed and importlib.util.find_spec(needed) is None:
            print(f"{kind}: left out, {needed} is not installed")
        elif kind not in content["kinds"]:
            row = overhead(kind, options.workers) | compare_cells(kind, options.workers, options.steps)
            first = content.setdefault("values", row["values"])
            row |= {"equal": row.pop("values") == first, "schedules": schedules(row["seconds_per_job"])}
            content["kinds"][kind] = row
            write_json(options.out, content)
            print(kind, {key: value for key, value in row.items() if key != "schedules"}, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
