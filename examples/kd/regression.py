"""Regression: a gradient-boosted teacher of scikit-learn and a network that predicts mean and spread.

The data are Friedman's first benchmark function. Run it with ``python examples/kd/regression.py``; scikit-learn is
needed.
"""

from __future__ import annotations

import torch
from sklearn.datasets import make_friedman1
from sklearn.ensemble import HistGradientBoostingRegressor
from torch import Tensor, nn

from policykd.kd.losses import GaussianNLL
from policykd.kd.objective.loss_call import FunctionLoss
from policykd.kd.objective.objective import Objective
from policykd.kd.objective.outputs import Outputs
from policykd.kd.objective.teachers import CallableTeacher
from policykd.kd.objective.terms import Term
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.distiller import Distiller


def samples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw inputs ``(N, 10)`` and targets ``(N, 1)`` of unit scale."""
    x, y = make_friedman1(count, noise=1.0, random_state=seed)
    return torch.from_numpy(x).float(), torch.from_numpy(y)[:, None].float() / 5.0 - 3.0


def network(width: int) -> nn.Module:
    """Return a network of a mean and a log standard deviation ``(B, 2)``."""
    return nn.Sequential(nn.Linear(10, width), nn.Tanh(), nn.Linear(width, 2))


def mean_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared error of the student's mean; the teacher gives no spread."""
    return (student[:, :1] - teacher[:, :1]).square().mean()


def main(epochs: int = 20, seed: int = 0) -> dict[str, float]:
    """Fit teacher and student, and return mean absolute errors on validation data."""
    torch.manual_seed(seed)
    train, val = samples(100, seed), samples(400, seed + 1)
    x, y = samples(2000, seed + 2)
    forest = HistGradientBoostingRegressor(random_state=seed).fit(x.numpy(), y[:, 0].numpy())
    twice = CallableTeacher(lambda x: forest.predict(x)[:, None].repeat(2, 1), gives="values", numpy=True)

    outputs = Outputs(kind="regression")
    objective = Objective(nll=GaussianNLL(min_std=0.05), kd=4.0 * Term(FunctionLoss(mean_error)), outputs=outputs)
    config = TrainConfig(epochs, batch_size=20, seed=seed, select="best", optimizer=OptimizerConfig("adam", lr=0.01))
    run = Distiller(network(32), twice, objective, config, report=["rmse"]).fit(train, val)
    return {"first epoch": run.history[0]["val_mae"], "best epoch": min(record["val_mae"] for record in run.history)}


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<12} {value:.3f}")
