"""A transformer for several body-worn sensors: attention among positions at every time, then over time.

It is a plain module without any knowledge of distillation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from policykd.errors import ConfigError


def _layers(width: int, heads: int, count: int, dropout: float) -> nn.ModuleList:
    return nn.ModuleList(
        nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True, norm_first=True)
        for _ in range(count)
    )


class SensorTransformer(nn.Module):
    """Spatial and temporal self-attention over windows of several sensors, mean pooling, and a linear classifier.

    A window is cut into pieces; every position's piece becomes a token by a shared linear map plus an embedding of its
    position. Tap paths: ``pool`` (the feature), ``fc``.

    Args:
        input_shape: ``(C, T)``; the channels of a position follow one another.
        positions: Number of positions P; divides C.
        width: Width of a token.
        heads: Heads of every attention.
        spatial: Layers of attention among the positions.
        temporal: Layers of attention over the pieces.
        piece: Steps of a piece; divides T.
        classes: Number of classes.
        dropout: Dropout of the layers.

    Raises:
        ConfigError: The positions do not divide the channels, or pieces the steps.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        positions: int,
        width: int = 64,
        heads: int = 4,
        spatial: int = 1,
        temporal: int = 2,
        piece: int = 8,
        classes: int = 10,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        channels, steps = input_shape
        if channels % positions or steps % piece:
            raise ConfigError(
                f"{positions} positions must divide {channels} channels, and pieces of {piece} the {steps} steps"
            )
        self.positions, self.piece = positions, piece
        self.embed = nn.Linear(channels // positions * piece, width)
        self.place = nn.Parameter(0.02 * torch.randn(positions, width))
        self.time = nn.Parameter(0.02 * torch.randn(steps // piece, width))
        self.spatial = _layers(width, heads, spatial, dropout)
        self.temporal = _layers(width, heads, temporal, dropout)
        self.norm, self.pool = nn.LayerNorm(width), nn.Identity()
        self.fc = nn.Linear(width, classes)

    def tokens(self, x: Tensor) -> Tensor:
        """Map windows ``(B, C, T)`` to tokens ``(B, pieces, P, width)``."""
        batch, channels, steps = x.shape
        own = channels // self.positions
        cut = x.reshape(batch, self.positions, own, steps // self.piece, self.piece)
        return self.embed(cut.permute(0, 3, 1, 2, 4).flatten(3)) + self.place

    def features_and_logits(self, x: Tensor, ignore: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map windows ``(B, C, T)`` to features ``(B, width)`` and logits ``(B, classes)``.

        Args:
            x: Windows.
            ignore: Positions ``(P,)`` that are absent: they have no influence. None for none.
        """
        tokens = self.tokens(x)
        batch, pieces, positions, width = tokens.shape
        rows, mask = tokens.reshape(batch * pieces, positions, width), None
        if ignore is not None:
            mask = ignore.expand(batch * pieces, positions)
        for layer in self.spatial:
            rows = layer(rows, src_key_padding_mask=mask)
        kept = rows.reshape(batch, pieces, positions, width)
        if ignore is not None:
            kept = kept[:, :, ~ignore]
        series = kept.mean(2) + self.time
        for layer in self.temporal:
            series = layer(series)
        features = self.pool(self.norm(series).mean(1))
        return features, self.fc(features)

    def forward(self, x: Tensor) -> Tensor:
        """Map windows ``(B, C, T)`` to logits ``(B, classes)``."""
        return self.features_and_logits(x)[1]
