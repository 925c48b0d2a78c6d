"""Wide residual networks (Zagoruyko and Komodakis 2016): pre-activation blocks, widths 16, 16k-32k-64k.

Depth is ``6 n + 4``. Tap paths: ``stem``, ``layer1`` to ``layer3`` (before the activation), ``act``, ``pool``, ``fc``.
"""

from __future__ import annotations

from torch import Tensor, nn

from policykd.errors import ConfigError


class PreactBlock(nn.Module):
    """Normalize, activate, convolve, twice; the shortcut is a 1x1 convolution where shapes change."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_width)
        self.act1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(in_width, width, 1, stride, bias=False) if in_width != width else None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, H, W)`` to ``(B, C, H / stride, W / stride)``."""
        active = self.act1(self.norm1(x))
        out = self.conv2(self.act2(self.norm2(self.conv1(active))))
        return out + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """A wide residual network for small images.

    Args:
        depth: ``6 n + 4``: 10, 16, 22, 28, 40.
        widen: The factor k of the widths.
        classes: Number of classes.
        in_channels: Channels of the input.

    Raises:
        ConfigError: The depth is not of that form.
    """

    def __init__(self, depth: int, widen: int = 1, *, classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ConfigError(f"a wide ResNet has depth 6 n + 4 (10, 16, 22, 28, 40), got {depth}")
        blocks, widths = (depth - 4) // 6, (16, 16 * widen, 32 * widen, 64 * widen)
        self.stem = nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False)
        self.layer1 = _stage(blocks, widths[0], widths[1], 1)
        self.layer2 = _stage(blocks, widths[1], widths[2], 2)
        self.layer3 = _stage(blocks, widths[2], widths[3], 2)
        self.act = nn.Sequential(nn.BatchNorm2d(widths[3]), nn.ReLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(widths[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)`` to logits ``(B, classes)``."""
        return self.fc(self.pool(self.act(self.layer3(self.layer2(self.layer1(self.stem(x)))))))


def _stage(blocks: int, in_width: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        PreactBlock(in_width, width, stride), *(PreactBlock(width, width, 1) for _ in range(blocks - 1))
    )
