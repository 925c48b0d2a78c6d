"""Public policy files that come without an environment: which are imported, and with which actions.

    python benchmarks/foreign_files.py --checkouts FOLDER --out results/benchmarks/foreign-files.json

The folder holds checkouts of the repositories in ``FILES`` as ``owner/name``. Actions are compared on standard normal
observations with those of ONNX Runtime, or of torch running a TorchScript archive, which needs nothing but the file.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from foreign_references import run_onnx, run_torchscript
from policykd.agents.acting import Acting
from policykd.agents.importing.foreign_policy import ForeignPolicy, policy_of
from policykd.agents.importing.formats import read_foreign
from policykd.agents.importing.options import ImportOptions
from policykd.environment import environment
from policykd.errors import PolicykdError
from policykd.storage import prepare_file, write_json

FILES: Mapping[str, Sequence[str]] = {
    "google-deepmind/mujoco_playground": tuple(
        f"mujoco_playground/experimental/sim2sim/onnx/{name}_policy.onnx"
        for name in ("apollo", "bh", "g1", "go1", "leap_reorient", "t1")
    ),
    "unitreerobotics/unitree_rl_lab": ("deploy/robots/g1/config/policy/velocity/v0/exported/policy.onnx",),
    "fan-ziqi/rl_sar": tuple(
        f"policy/{name}.pt"
        for name in (
            "b2/robot_lab/policy", "b2w/robot_lab/policy", "g1/robomimic/charleston/dance_0605_aligned",
            "g1/robomimic/locomotion/policy_29dof", "g1/whole_body_tracking/dance_102/policy",
            "g1/whole_body_tracking/gangnam_style/policy", "go2/himloco/himloco", "go2/robot_lab/policy",
            "go2w/robot_lab/policy", "gr1t1/legged_gym/model_4000_jit", "l4w4/legged_gym/policy_25kg_b",
            "lite3/himloco/policy_6_11", "tita/robot_lab/policy",
        )
    ),
}  # fmt: skip
"""Files by repository."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
        checkouts: folder of the repositories.
        rows: observations per file.
        out: JSON file.
    """

    checkouts: Path
    rows: int = 200
    out: Path = Path("results/benchmarks/foreign-files.json")


def measure(repository: str, file: str, options: Options) -> dict[str, Any]:
    """Return what becomes of a file: its policy's sizes and largest difference, or why it is refused."""
    path, found = options.checkouts / repository / file, {"repository": repository, "file": file}
    try:
        foreign = read_foreign(path, ImportOptions(activation="elu"))
    except PolicykdError as error:
        return {**found, "refused": str(error).replace(str(path), path.name)}
    size, draw = sum(foreign.groups.values()), np.random.default_rng(0)
    rows = draw.standard_normal((options.rows, size)).astype(np.float32)
    run = run_onnx if path.suffix == ".onnx" else run_torchscript
    expected, actions = run(path, rows), actions_of(foreign, rows)
    same = expected.shape == actions.shape
    return {
        **found, "source": foreign.source, "features": size, "actions": actions.shape[1],
        "activation": foreign.activation, "memory": None if foreign.recurrence is None else foreign.recurrence.kind,
        "notes": list(foreign.notes), "difference": float(np.abs(expected - actions).max()) if same else None,
        "largest_action": float(np.abs(expected).max()), "actions_of_the_file": expected.shape[1],
    }  # fmt: skip


def actions_of(foreign: ForeignPolicy, rows: np.ndarray) -> np.ndarray:
    """Return the imported policy's actions for observations one after the other, of one episode."""
    acting = Acting(policy_of(foreign))
    with torch.no_grad():
        return np.concatenate([foreign.actions.apply(acting(torch.from_numpy(row)[None])).numpy() for row in rows])


def main(options: Options) -> None:
    """Measure all files that are there, print and save."""
    prepare_file(options.out)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows = []
    for repository, files in FILES.items():
        for file in files:
            if not (options.checkouts / repository / file).exists():
                print(f"{repository}/{file}: not in {options.checkouts}; left out")
                continue
            rows.append(row := measure(repository, file, options))
            print(f"{file}: {row.get('refused') or row['difference']}")
    versions = environment(("torch", "onnxruntime"))
    write_json(options.out, {"rows": options.rows, "files": rows, "environment": versions})


if __name__ == "__main__":
    main(tyro.cli(Options))
