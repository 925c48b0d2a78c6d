"""Networks for multichannel time series ``(B, C, T)``: a 1-D convolutional network and a temporal convolutional one.

Tap paths of both: ``layer1`` ... ``layer<n>``, ``pool``, ``fc``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class CNN1d(nn.Module):
    """Strided convolutions with batch normalization, then average pooling over time.

    Args:
        in_channels: Channels of the series.
        widths: Channels of the layers; each halves the length.
        classes: Number of classes.
        kernel: Odd kernel size.
    """

    def __init__(
        self, in_channels: int, widths: Sequence[int] = (16, 32, 64), *, classes: int = 6, kernel: int = 5
    ) -> None:
        super().__init__()
        self.depth, width = len(widths), in_channels
        for number, out in enumerate(widths, start=1):
            conv = nn.Conv1d(width, out, kernel, 2, kernel // 2, bias=False)
            self.add_module(f"layer{number}", nn.Sequential(conv, nn.BatchNorm1d(out), nn.ReLU()))
            width = out
        self.pool = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten())
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map series ``(B, C, T)`` to logits ``(B, classes)``."""
        for number in range(1, self.depth + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(self.pool(x))


class CausalBlock(nn.Module):
    """Two dilated convolutions that never look ahead, around a shortcut."""

    def __init__(self, in_width: int, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.past = (kernel - 1) * dilation
        self.conv1 = nn.Conv1d(in_width, width, kernel, dilation=dilation)
        self.conv2 = nn.Conv1d(width, width, kernel, dilation=dilation)
        self.act1, self.act2 = nn.ReLU(), nn.ReLU()
        self.shortcut = nn.Conv1d(in_width, width, 1) if in_width != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, T)`` to ``(B, C, T)``."""
        out = self.act1(self.conv1(F.pad(x, (self.past, 0))))
        return self.act2(self.conv2(F.pad(out, (self.past, 0))) + self.shortcut(x))


class TCN(nn.Module):
    """A temporal convolutional network (Bai et al. 2018) with dilations 1, 2, 4, ... and average pooling over time.

    Args:
        in_channels: Channels of the series.
        width: Channels of every layer.
        depth: Number of blocks.
        classes: Number of classes.
        kernel: Kernel size.
    """

    def __init__(self, in_channels: int, width: int = 32, depth: int = 4, *, classes: int = 6, kernel: int = 3) -> None:
        super().__init__()
        self.depth = depth
        for number in range(1, depth + 1):
            block = CausalBlock(in_channels if number == 1 else width, width, kernel, 2 ** (number - 1))
            self.add_module(f"layer{number}", block)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten())
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map series ``(B, C, T)`` to logits ``(B, classes)``."""
        for number in range(1, self.depth + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(self.pool(x))
