"""CIFAR-style residual networks: a 3x3 stem, three stages and global average pooling.

Depth is ``6 n + 2`` with n blocks per stage. The plain family has widths 16, 16-32-64 (He et al. 2016, section 4.2);
the "x4" family of the distillation literature has 32, 64-128-256. Tap paths: ``stem``, ``layer1`` to ``layer3``,
``pool``, ``fc`` and, before the last activation of a stage, ``layer3.<n-1>.act2:input``.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from policykd.errors import ConfigError

Shortcut = Literal["projection", "padding"]


class PadShortcut(nn.Module):
    """He et al.'s option A: subsample and append zero channels, without parameters."""

    def __init__(self, in_width: int, out_width: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = out_width - in_width, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, H, W)`` to ``(B, C_out, H / stride, W / stride)``."""
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalization around a shortcut."""

    def __init__(self, in_width: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_width != width:
            if shortcut == "padding":
                self.shortcut = PadShortcut(in_width, width, stride)
            else:
                conv = nn.Conv2d(in_width, width, 1, stride, bias=False)
                self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, H, W)`` to ``(B, C, H / stride, W / stride)``."""
        out = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        return self.act2(out + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network for small images.

    Args:
        depth: ``6 n + 2``: 8, 14, 20, 32, 44, 56, 110.
        widths: Channels of the stem and of the three stages.
        classes: Number of classes.
        in_channels: Channels of the input.
        shortcut: ``"projection"`` (1x1 convolution where shapes change) or ``"padding"`` (no parameters).

    Raises:
        ConfigError: The depth is not of that form.
    """

    def __init__(
        self,
        depth: int,
        widths: tuple[int, int, int, int] = (16, 16, 32, 64),
        *,
        classes: int = 10,
        in_channels: int = 3,
        shortcut: Shortcut = "projection",
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ConfigError(f"a ResNet for small images has depth 6 n + 2 (8, 14, 20, 32, ...), got {depth}")
        blocks = (depth - 2) // 6
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.layer1 = _stage(blocks, widths[0], widths[1], 1, shortcut)
        self.layer2 = _stage(blocks, widths[1], widths[2], 2, shortcut)
        self.layer3 = _stage(blocks, widths[2], widths[3], 2, shortcut)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(widths[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)`` to logits ``(B, classes)``."""
        return self.fc(self.pool(self.layer3(self.layer2(self.layer1(self.stem(x))))))


def _stage(blocks: int, in_width: int, width: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    first = BasicBlock(in_width, width, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(width, width, 1, shortcut) for _ in range(blocks - 1)))


def resnet(depth: int, *, wide: bool = False, classes: int = 10, in_channels: int = 3) -> ResNet:
    """ResNet-``depth``, or ResNet-``depth``x4 if ``wide``."""
    widths = (32, 64, 128, 256) if wide else (16, 16, 32, 64)
    return ResNet(depth, widths, classes=classes, in_channels=in_channels)
