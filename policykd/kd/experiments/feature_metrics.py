"""Metrics of a student's and its teacher's features, measured on the test data of a cell.

It reads a cell and its networks; it trains nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from policykd.kd.experiments.system import Cell
from policykd.kd.metrics import accuracy


@torch.no_grad()
def compare_features(cell: Cell[Any], network: Any, **metrics: Callable[[Tensor, Tensor], Any]) -> dict[str, float]:
    """Return the test accuracy of a network, and metrics of its and the teacher's features of the test data.

    Args:
        cell: The cell.
        network: The network.
        **metrics: Metric -> ``(network's features, teacher's features) -> scalar``.
    """
    features, logits = network.features_and_logits(cell.test.x)
    taught, _ = cell.teacher.features_and_logits(cell.test.x)
    values = {name: float(metric(features, taught)) for name, metric in metrics.items()}
    return {"accuracy": accuracy(logits, cell.test.y), **values}
