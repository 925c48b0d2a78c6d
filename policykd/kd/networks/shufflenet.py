"""ShuffleNet V1 (Zhang et al. 2018) and V2 (Ma et al. 2018) for 32 x 32 inputs, with a stem that keeps the resolution.

Variant ``paper`` of V1 is that of the paper: the bottleneck is a quarter of a unit's full output width, and nothing is
activated after the depthwise convolution. Variant ``repdistiller`` is that of RepDistiller and mdistiller: the
bottleneck of a strided unit is a quarter of what it adds to its pooled input, and a ReLU follows the depthwise
convolution.

Tap paths of both: ``stem``, ``layer1`` to ``layer3``, ``pool``, ``fc`` (V2 also ``head``).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from policykd.errors import ConfigError
from policykd.kd.options import check_choice

Variant = Literal["paper", "repdistiller"]

_V1_WIDTHS = {1: (144, 288, 576), 2: (200, 400, 800), 3: (240, 480, 960), 4: (272, 544, 1088), 8: (384, 768, 1536)}
_V2_WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


class ChannelShuffle(nn.Module):
    """Interleave the channels of g groups, so that grouped convolutions see one another."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Permute the channels of ``(B, C, H, W)``."""
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class UnitV1(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; a strided unit concatenates its pooled input."""

    def __init__(
        self, in_width: int, width: int, stride: int, groups: int, first_groups: int, variant: Variant = "paper"
    ) -> None:
        super().__init__()
        out = width - in_width if stride == 2 else width
        inner = (width if variant == "paper" else out) // 4
        self.reduce = nn.Sequential(_conv(in_width, inner, 1, groups=first_groups), nn.ReLU())
        self.shuffle = ChannelShuffle(first_groups)
        self.depthwise = _conv(inner, inner, 3, stride, groups=inner)
        self.between: nn.Module = nn.Identity() if variant == "paper" else nn.ReLU()
        self.expand = _conv(inner, out, 1, groups=groups)
        self.shortcut: nn.Module | None = nn.AvgPool2d(3, 2, 1) if stride == 2 else None
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, H, W)`` to ``(B, C, H / stride, W / stride)``."""
        out = self.expand(self.between(self.depthwise(self.shuffle(self.reduce(x)))))
        return self.act(out + x if self.shortcut is None else torch.cat([out, self.shortcut(x)], 1))


class ShuffleNetV1(nn.Module):
    """ShuffleNet V1 for small images.

    Args:
        groups: Groups of the 1x1 convolutions: 1, 2, 3, 4 or 8.
        classes: Number of classes.
        in_channels: Channels of the input.
        variant: ``paper``, or ``repdistiller`` for weights of RepDistiller and mdistiller.

    Raises:
        ConfigError: The number of groups is not one of these, or the variant is unknown.
    """

    def __init__(self, groups: int = 3, *, classes: int = 10, in_channels: int = 3, variant: Variant = "paper") -> None:
        super().__init__()
        check_choice("variant", variant, ("paper", "repdistiller"))
        self.variant = variant
        if groups not in _V1_WIDTHS:
            raise ConfigError(f"ShuffleNet V1 comes with {sorted(_V1_WIDTHS)} groups, got {groups}")
        self.stem = nn.Sequential(_conv(in_channels, 24, 1), nn.ReLU())
        channels = 24
        for number, (width, blocks) in enumerate(zip(_V1_WIDTHS[groups], (4, 8, 4), strict=True), start=1):
            # the very first pointwise layer has too few channels to be grouped
            first = UnitV1(channels, width, 2, groups, 1 if number == 1 else groups, variant)
            rest = (UnitV1(width, width, 1, groups, groups, variant) for _ in range(blocks - 1))
            self.add_module(f"layer{number}", nn.Sequential(first, *rest))
            channels = width
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)`` to logits ``(B, classes)``."""
        for layer in (self.stem, *(self.get_submodule(f"layer{number}") for number in (1, 2, 3)), self.pool):
            x = layer(x)
        return self.fc(x)


class UnitV2(nn.Module):
    """Split the channels, transform one half, concatenate and shuffle; a strided unit transforms both copies."""

    def __init__(self, in_width: int, width: int, stride: int) -> None:
        super().__init__()
        half = width // 2
        own = in_width if stride == 2 else half
        self.split = stride == 1
        self.branch = nn.Sequential(
            _conv(own, half, 1), nn.ReLU(), _conv(half, half, 3, stride, groups=half), _conv(half, half, 1), nn.ReLU()
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2:
            depthwise = _conv(in_width, in_width, 3, 2, groups=in_width)
            self.shortcut = nn.Sequential(depthwise, _conv(in_width, half, 1), nn.ReLU())
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, H, W)`` to ``(B, C, H / stride, W / stride)``."""
        kept, moved = x.chunk(2, 1) if self.split else (x, x)
        return self.shuffle(torch.cat([self.shortcut(kept), self.branch(moved)], 1))


class ShuffleNetV2(nn.Module):
    """ShuffleNet V2 for small images.

    Args:
        size: Width factor: 0.5, 1.0, 1.5 or 2.0.
        classes: Number of classes.
        in_channels: Channels of the input.

    Raises:
        ConfigError: The size is not one of these.
    """

    def __init__(self, size: float = 1.0, *, classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if size not in _V2_WIDTHS:
            raise ConfigError(f"ShuffleNet V2 comes in sizes {sorted(_V2_WIDTHS)}, got {size}")
        *widths, last = _V2_WIDTHS[size]
        self.stem = nn.Sequential(_conv(in_channels, 24, 1), nn.ReLU())
        channels = 24
        for number, (width, blocks) in enumerate(zip(widths, (4, 8, 4), strict=True), start=1):
            rest = (UnitV2(width, width, 1) for _ in range(blocks - 1))
            self.add_module(f"layer{number}", nn.Sequential(UnitV2(channels, width, 2), *rest))
            channels = width
        self.head = nn.Sequential(_conv(channels, last, 1), nn.ReLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)`` to logits ``(B, classes)``."""
        for layer in (self.stem, *(self.get_submodule(f"layer{number}") for number in (1, 2, 3)), self.head, self.pool):
            x = layer(x)
        return self.fc(x)


def _conv(in_width: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_width, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width))
