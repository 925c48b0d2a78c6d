"""Predictions and accuracy of a module over a data set.

It leaves the module's mode and weights as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from policykd.kd.objective.inputs import call_network, count_samples, device_of
from policykd.kd.objective.outputs import Outputs
from policykd.kd.training.batches import Batches
from policykd.kd.training.fields import Fields


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode for a while; every layer gets back the mode it had."""
    modes = {layer: layer.training for layer in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for layer, mode in modes.items():
            layer.training = mode


@torch.no_grad()
def predict(
    module: nn.Module,
    data: Any,
    *,
    batch_size: int = 512,
    outputs: Outputs = Outputs(),
    fields: Fields = Fields(),
) -> tuple[Tensor, Tensor]:
    """Logits and labels over a data set, in its order.

    The module runs in eval mode and is left in the mode it had.

    Args:
        module: Maps x to logits.
        data: What ``Batches`` takes.
        batch_size: Samples at a time.
        outputs: How its output is read.
        fields: Which entries of a sample are what.

    Returns:
        Logits ``(N, C)``, or in the layout of the outputs, in float32 at least, and labels ``(N, ...)``.
    """
    device = device_of(module)
    logits, labels = [], []
    with evaluating(module):
        for batch in Batches(data, batch_size, shuffle=False, fields=fields).epoch(0):
            x = batch.to(device).x
            out = outputs.student_tensor(call_network(module, x), count_samples(x), f"network {type(module).__name__}")
            logits.append((out.float() if out.dtype in (torch.float16, torch.bfloat16) else out).cpu())
            labels.append(batch.targets)
    return torch.cat(logits), torch.cat(labels)


def accuracy(module: nn.Module, data: Any, *, batch_size: int = 512) -> float:
    """Share of samples whose largest logit is the label's."""
    logits, labels = predict(module, data, batch_size=batch_size)
    return float((logits.argmax(1) == labels).double().mean())
