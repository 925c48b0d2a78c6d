"""Metrics of a network on validation data: any outputs, any data, computed batch after batch.

It runs without gradients and leaves the network's mode as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from policykd.errors import ConfigError
from policykd.kd.metric_registry import Metric
from policykd.kd.objective.inputs import call_network, count_samples, device_of
from policykd.kd.objective.outputs import Outputs
from policykd.kd.objective.rows import batch_rows
from policykd.kd.objective.signals import Signals
from policykd.kd.training.evaluate import evaluating
from policykd.kd.training.fields import Fields
from policykd.kd.training.loaders import batch_source


@torch.no_grad()
def evaluate(
    network: nn.Module,
    data: Any,
    metrics: Sequence[Metric],
    *,
    outputs: Outputs = Outputs(),
    fields: Fields = Fields(),
    batch_size: int = 512,
) -> Mapping[str, float]:
    """Return metrics of a network on a data set; it runs in eval mode and is left in the mode it had.

    Soft labels of one class per sample count as their most probable class.

    Args:
        network: The network.
        data: Tensors, a data set or a data loader, with labels.
        metrics: Records of :data:`policykd.kd.metric_registry.METRICS`.
        outputs: How its output is read.
        fields: Which entries of a batch are what.
        batch_size: Samples at a time, unless the data are a loader.

    Raises:
        ConfigError: The data have no labels, or no event has one.
    """
    device = device_of(network)
    running: dict[str, Any] = {}
    with evaluating(network):
        for batch in batch_source(data, batch_size, shuffle=False, fields=fields).epoch(0):
            if batch.targets is None:
                raise ConfigError("validation data need labels: give pairs, or name them by Fields(targets=...)")
            batch = batch.to(device)
            name = f"network {type(network).__name__}"
            logits = outputs.student_tensor(call_network(network, batch.x), count_samples(batch.x), name)
            logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
            rows = batch_rows(
                outputs, Signals(logits), {}, batch.targets, mask=batch.mask, weights=None, validate=True
            ).labeled
            running = running or {metric.name: metric.make(rows.student.shape[1]) for metric in metrics}
            labels = None if rows.targets is None else rows.targets.cpu()
            if labels is not None and outputs.kind == "single_label" and labels.dim() == 2:
                labels = labels.argmax(1)
            for metric in running.values():
                metric.update(rows.student.cpu(), labels)
    return {name: float(metric.compute()) for name, metric in running.items()}
