"""A classifier that fuses modalities by the cosines of their embeddings, for systems that compare modalities.

It maps modalities that stand next to one another in one input to logits and is built by systems, not by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from policykd.errors import ConfigError
from policykd.kd.losses.gram import modality_gram


class CosineFusion(nn.Module):
    """A classifier of several modalities that trusts the modalities that agree with the others.

    Every modality has its own encoder into one space. A modality's share in the sum is the softmax of its mean cosine
    with the others, times a learned sharpness, so that the cosines carry meaning.

    Args:
        inputs: Width of every modality in the input, which holds them side by side.
        hidden: Width of the encoders' hidden layer.
        width: Width of the common space.
        classes: Number of classes.

    Raises:
        ConfigError: There are fewer than two modalities.
    """

    def __init__(self, inputs: Sequence[int], *, hidden: int, width: int, classes: int) -> None:
        super().__init__()
        if len(inputs) < 2:
            raise ConfigError(f"fusion needs at least two modalities, got {len(inputs)}")
        self.inputs = list(inputs)
        self.encoders = nn.ModuleList(
            nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, width)) for size in inputs
        )
        self.sharpness = nn.Parameter(torch.tensor(5.0))
        self.fc = nn.Linear(width, classes)

    def embeddings(self, x: Tensor) -> Tensor:
        """Return embeddings ``(B, M, width)`` of inputs ``(B, sum of inputs)``."""
        parts = x.split(self.inputs, dim=1)
        return torch.stack([encoder(part) for encoder, part in zip(self.encoders, parts, strict=True)], dim=1)

    def trust(self, embeddings: Tensor) -> Tensor:
        """Return the share of every modality in the fusion ``(B, M)``; the shares of a sample sum to one."""
        others = modality_gram(embeddings) * (1 - torch.eye(len(self.inputs), device=embeddings.device))
        return (self.sharpness * others.sum(2) / (len(self.inputs) - 1)).softmax(1)

    def classify(self, embeddings: Tensor) -> Tensor:
        """Return logits ``(B, classes)`` from embeddings ``(B, M, width)``."""
        return self.fc((self.trust(embeddings)[:, :, None] * embeddings).sum(1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, sum of inputs)`` to logits ``(B, classes)``."""
        return self.classify(self.embeddings(x))
