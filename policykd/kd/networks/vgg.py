"""VGG networks with batch normalization for 32 x 32 images, five stages of 64, 128, 256, 512, 512 channels.

The distillation literature's VGG-8 has one convolution per stage and VGG-13 two; a single linear layer ends both. Tap
paths: ``layer1`` to ``layer5``, ``pool``, ``fc``. Max-pooling stands after the first three stages, and after the fourth
for images of 64 x 64 or more, so that the last stage sees 4 x 4 places of a 32 x 32 image.
"""

from __future__ import annotations

from torch import Tensor, nn

from policykd.errors import ConfigError

_WIDTHS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3)}


class VGG(nn.Module):
    """A VGG network for small images (at least 8 x 8).

    Args:
        depth: 8, 11, 13 or 16.
        classes: Number of classes.
        in_channels: Channels of the input.

    Raises:
        ConfigError: The depth is not one of these.
    """

    def __init__(self, depth: int, *, classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if depth not in _CONVOLUTIONS:
            raise ConfigError(f"VGG comes in depths {sorted(_CONVOLUTIONS)}, got {depth}")
        width = in_channels
        for number, (out_width, count) in enumerate(zip(_WIDTHS, _CONVOLUTIONS[depth], strict=True), start=1):
            self.add_module(f"layer{number}", _stage(width, out_width, count))
            width = out_width
        self.downsample = nn.MaxPool2d(2)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)`` to logits ``(B, classes)``."""
        pooled = 4 if min(x.shape[2:]) >= 64 else 3  # stages followed by pooling, as in the distillation literature
        for number in range(1, 6):
            x = self.get_submodule(f"layer{number}")(x)
            x = self.downsample(x) if number <= pooled else x
        return self.fc(self.pool(x))


def _stage(in_width: int, width: int, count: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for place in range(count):
        layers += [nn.Conv2d(in_width if place == 0 else width, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)
