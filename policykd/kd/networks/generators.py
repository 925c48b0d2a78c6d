"""Generators of samples from noise, with or without labels, and a critic of labeled samples.

They are plain modules without any knowledge of distillation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from policykd.errors import ConfigError


def _dense(widths: Sequence[int], *, norm: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for one, other in pairwise(widths[:-1]):
        layers += [nn.Linear(one, other), *([nn.BatchNorm1d(other)] if norm else []), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


class VectorGenerator(nn.Module):
    """A fully connected generator.

    Args:
        latent: Size of the noise.
        hidden: Widths of the hidden layers, with batch normalization.
        output_shape: Shape of a sample.
        label_size: Size of the label's vector that is put next to the noise; 0 for none.
        bounded: Whether samples are in [0, 1], by a sigmoid.
    """

    def __init__(
        self,
        latent: int,
        hidden: Sequence[int],
        output_shape: Sequence[int],
        *,
        label_size: int = 0,
        bounded: bool = False,
    ) -> None:
        super().__init__()
        self.latent, self.output_shape, self.bounded = latent, tuple(output_shape), bounded
        self.layers = _dense([latent + label_size, *hidden, prod(output_shape)], norm=True)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map noise ``(B, latent)`` and, with labels, their vectors ``(B, label_size)`` to samples ``(B, ...)``."""
        out = self.layers(noise if labels is None else torch.cat([noise, labels], 1))
        out = torch.sigmoid(out) if self.bounded else out
        return out.reshape(len(noise), *self.output_shape)


class LabelCritic(nn.Module):
    """A fully connected critic of samples with their labels: one logit, or with ``positive`` a number of at least 0.

    Args:
        width: Size of a flattened sample, or of its feature.
        label_size: Size of the label's vector.
        hidden: Widths of the hidden layers.
        positive: End in a ReLU and normalize groups of eight hidden units, as density ratios do.

    Raises:
        ConfigError: Hidden widths of a positive critic are not multiples of eight.
    """

    def __init__(self, width: int, label_size: int, hidden: Sequence[int], *, positive: bool = False) -> None:
        super().__init__()
        if positive and any(size % 8 for size in hidden):
            raise ConfigError(f"hidden is {tuple(hidden)}; widths of a positive critic are multiples of 8")
        layers: list[nn.Module] = []
        for one, other in pairwise([width + label_size, *hidden]):
            layers += [nn.Linear(one, other), *([nn.GroupNorm(8, other)] if positive else []), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], 1), *([nn.ReLU()] if positive else []))
        if positive:
            last = self.layers[-2]
            assert isinstance(last, nn.Linear)
            nn.init.ones_(last.bias)  # a ratio of one to begin with: a ReLU that ends at 0 has no gradient

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Map samples ``(B, ...)`` and vectors of labels ``(B, label_size)`` to values ``(B,)``."""
        return self.layers(torch.cat([x.flatten(1), labels], 1))[:, 0]


class ImageGenerator(nn.Module):
    """Noise to images in [0, 1]: a linear map, then twice upsampling by two with a convolution.

    The generator of data-free distillation (Fang et al.; Li et al., arXiv 2208.13648). Weights are drawn from
    N(0, 0.02), those of batch normalization from N(1, 0.02).

    Args:
        latent: Size of the noise.
        output_shape: ``(C, H, W)`` with H and W divisible by four.
        width: Channels before the last convolution.

    Raises:
        ConfigError: Height or width are not divisible by four.
    """

    def __init__(self, latent: int, output_shape: Sequence[int], *, width: int = 64) -> None:
        super().__init__()
        channels, height, side = output_shape
        if height % 4 or side % 4:
            raise ConfigError(f"output_shape is {tuple(output_shape)}; height and width must be divisible by 4")
        self.latent, self.small = latent, (4 * width, height // 4, side // 4)
        self.first = nn.Linear(latent, prod(self.small))
        self.layers = nn.Sequential(
            nn.BatchNorm2d(4 * width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(4 * width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.Sigmoid(),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1.0, 0.02)

    def forward(self, noise: Tensor) -> Tensor:
        """Map noise ``(B, latent)`` to images ``(B, C, H, W)``."""
        return self.layers(self.first(noise).reshape(len(noise), *self.small))
