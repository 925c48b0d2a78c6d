"""MobileNetV2 (Sandler et al. 2018) for 32 x 32 inputs: inverted residuals with linear bottlenecks.

The distillation literature uses width 0.5 and expansion 6 on CIFAR, with a stem of stride 2 as on large images. Variant
``paper`` is that of the paper: ReLU6, and no expanding convolution in the first stage, whose expansion is 1. Variant
``repdistiller`` is that of RepDistiller and mdistiller: ReLU, and an expanding convolution in every stage, which makes
288 parameters more at width 0.5.
Tap paths: ``stem``, ``layer1`` to ``layer7``, ``head``, ``pool``, ``fc``.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from policykd.kd.options import check_choice

Variant = Literal["paper", "repdistiller"]
# channels, blocks, stride of the first block
_STAGES = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
_LAST = 1280


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel by 3x3, project by 1x1 without activation."""

    def __init__(self, in_width: int, width: int, stride: int, expansion: int, variant: Variant = "paper") -> None:
        super().__init__()
        inner, theirs = in_width * expansion, variant == "repdistiller"
        expands = expansion != 1 or theirs
        self.expand = _unit(in_width, inner, 1, variant=variant) if expands else nn.Identity()
        self.depthwise = _unit(inner, inner, 3, stride, groups=inner, variant=variant)
        self.project = nn.Sequential(nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width))
        self.residual = stride == 1 and in_width == width

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C_in, H, W)`` to ``(B, C, H / stride, W / stride)``."""
        out = self.project(self.depthwise(self.expand(x)))
        return out + x if self.residual else out


class MobileNetV2(nn.Module):
    """MobileNetV2 for small images.

    Args:
        width: Factor of all channel counts; the last layer keeps 1280 channels for factors up to 1.
        expansion: Expansion of all stages but the first.
        classes: Number of classes.
        in_channels: Channels of the input.
        stem_stride: Stride of the first convolution.
        variant: ``paper``, or ``repdistiller`` for weights of RepDistiller and mdistiller.

    Raises:
        ConfigError: The variant is unknown.
    """

    def __init__(
        self,
        width: float = 0.5,
        *,
        expansion: int = 6,
        classes: int = 10,
        in_channels: int = 3,
        stem_stride: int = 2,
        variant: Variant = "paper",
    ) -> None:
        super().__init__()
        check_choice("variant", variant, ("paper", "repdistiller"))
        self.variant = variant
        channels, last = int(32 * width), max(_LAST, int(_LAST * width))
        self.stem = _unit(in_channels, channels, 3, stem_stride, variant=variant)
        for number, (stage_width, blocks, stride) in enumerate(_STAGES, start=1):
            factor, out = (1 if number == 1 else expansion), int(stage_width * width)
            first = InvertedResidual(channels, out, stride, factor, variant)
            rest = (InvertedResidual(out, out, 1, factor, variant) for _ in range(blocks - 1))
            self.add_module(f"layer{number}", nn.Sequential(first, *rest))
            channels = out
        self.head = _unit(channels, last, 1, variant=variant)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)`` to logits ``(B, classes)``."""
        x = self.stem(x)
        for number in range(1, len(_STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return self.fc(self.pool(self.head(x)))


def _unit(
    in_width: int, width: int, kernel: int, stride: int = 1, groups: int = 1, *, variant: Variant
) -> nn.Sequential:
    conv = nn.Conv2d(in_width, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU6() if variant == "paper" else nn.ReLU())
