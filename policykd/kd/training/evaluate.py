"""Predictions and accuracy of a module over a data set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from policykd.kd.training.batches import Batches


@torch.no_grad()
def predict(module: nn.Module, data: Any, *, batch_size: int = 512) -> tuple[Tensor, Tensor]:
    """Logits and labels over a data set, in its order.

    The module runs in eval mode and is left in the mode it had.

    Args:
        module: Maps x to logits.
        data: What ``Batches`` takes.
        batch_size: Samples at a time.

    Returns:
        Logits ``(N, C)`` in float32 at least, and labels ``(N,)``.
    """
    modes = {layer: layer.training for layer in module.modules()}
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    module.eval()
    logits, labels = [], []
    try:
        for batch in Batches(data, batch_size, shuffle=False).epoch(0):
            out = module(batch.x.to(device))
            logits.append((out.float() if out.dtype in (torch.float16, torch.bfloat16) else out).cpu())
            labels.append(batch.targets)
    finally:
        for layer, mode in modes.items():
            layer.training = mode
    return torch.cat(logits), torch.cat(labels)


def accuracy(module: nn.Module, data: Any, *, batch_size: int = 512) -> float:
    """Share of samples whose largest logit is the label's."""
    logits, labels = predict(module, data, batch_size=batch_size)
    return float((logits.argmax(1) == labels).double().mean())
