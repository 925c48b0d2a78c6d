"""Several labels per sample: binary cross-entropy, binary distillation and mean average precision.

A sample is a sum of the patterns of its tags, in noise. Run it with ``python examples/kd/multi_label.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from policykd.kd.losses import BCE, BinaryKD
from policykd.kd.networks import MLP
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.outputs import Outputs
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.distiller import Distiller

TAGS, WIDTH = 6, 24


def samples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw inputs ``(N, WIDTH)`` and tags ``(N, TAGS)``, each present with probability 0.3."""
    patterns = torch.randn(TAGS, WIDTH, generator=torch.Generator().manual_seed(100))
    generator = torch.Generator().manual_seed(seed)
    tags = torch.rand(count, TAGS, generator=generator) < 0.3
    return (tags.float() @ patterns).tanh() + 0.5 * torch.randn(count, WIDTH, generator=generator), tags


def main(epochs: int = 10, seed: int = 0) -> dict[str, float]:
    """Train teacher and student, and return mean average precisions on validation data."""
    torch.manual_seed(seed)
    train, val = samples(120, seed), samples(400, seed + 1)
    outputs = Outputs(kind="multi_label")
    config = TrainConfig(epochs, batch_size=32, seed=seed, select="best", optimizer=OptimizerConfig("adam", lr=5e-3))

    teacher_run = Distiller(MLP((WIDTH,), (128,), classes=TAGS), None, Objective(bce=BCE(), outputs=outputs), config)
    teacher = teacher_run.fit(samples(2000, seed + 2), val).export()

    objective = Objective(bce=0.5 * BCE(), kd=BinaryKD(temperature=2.0, scale_t2=True), outputs=outputs)
    run = Distiller(MLP((WIDTH,), (16,), classes=TAGS), teacher, objective, config, report=["label_f1"]).fit(train, val)
    return {"first epoch": run.history[0]["val_map"], "best epoch": max(record["val_map"] for record in run.history)}


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<12} {value:.3f}")
