"""Time of one action of an exported policy, on one core.

    policykd export student --out exported
    python benchmarks/export.py student exported

Observations are given one at a time, as a robot gives them. The C header is timed inside a compiled loop, onnxruntime
and TorchScript through Python, whose own cost is part of their time. Times are medians over repetitions in turns, by
processor time of one thread.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from policykd.agents.export.runtime import Runtime, c_runtime, onnx_runtime, torchscript_runtime
from policykd.agents.files.policy_file import load_policy
from policykd.environment import environment
from policykd.storage import write_json


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    policy: tyro.conf.Positional[Path]
    """Policy file, or folder of a run."""
    exported: tyro.conf.Positional[Path]
    """Folder that policykd export wrote, with one flat input."""
    actions: int = 2000
    """Actions per repetition."""
    repetitions: int = 15
    """Repetitions of every runtime, in turns."""
    out: Path = Path("results/benchmarks/export.json")
    """JSON file."""


def main(options: Options) -> None:
    """Measure, print and save."""
    torch.set_num_threads(1)
    policy = load_policy(options.policy).policy
    states = np.random.default_rng(0).normal(size=(options.actions, policy.observation_size)).astype(np.float32)
    arms = _arms(options.exported, policy.groups)
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(options.repetitions):
        for name, arm in arms.items():
            began = time.process_time()
            arm(states)
            times[name].append(1e6 * (time.process_time() - began) / options.actions)
    table = Table("runtime", "one action, us (median)", "range, us", title=f"hidden {policy.architecture.hidden}")
    for name, values in times.items():
        table.add_row(name, f"{np.median(values):.1f}", f"{min(values):.1f} to {max(values):.1f}")
    Console(width=100).print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    shape = {"inputs": policy.observation_size, "hidden": list(policy.architecture.hidden), "outputs": policy.actions}
    report = json.loads((options.exported / "export.json").read_text())
    write_json(
        options.out,
        {
            "environment": environment(("torch", "onnxruntime", "numpy")),
            "policy": shape,
            "export": report,
            "microseconds": times,
        },
    )


def _arms(folder: Path, groups: dict[str, int]) -> dict[str, Callable[[np.ndarray], object]]:
    """Return every runtime as a function that acts on states one after the other."""
    c = c_runtime(folder / "policy.h", groups, per_group=False)
    onnx = onnx_runtime(folder / "policy.onnx", groups)
    script = torchscript_runtime(folder / "policy.pt", groups, per_group=False)
    return {"C header": c, "onnxruntime": _one_by_one(onnx), "TorchScript": _one_by_one(script)}


def _one_by_one(run: Runtime) -> Callable[[np.ndarray], object]:
    def act(states: np.ndarray) -> None:
        for i in range(len(states)):
            run(states[i : i + 1])

    return act


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__.partition("\n")[0]))
