"""A small convolutional network with the taps of the MLP, for systems that move from vectors to images or series.

It is built by systems, not by name.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from policykd.errors import ConfigError

_CONV = {1: nn.Conv1d, 2: nn.Conv2d}
_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
_POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d}


class HiddenCNN(nn.Module):
    """Convolutions with batch normalization that halve the size, average pooling, and a linear classifier.

    Tap paths: ``map1`` ... ``map<n>`` (maps after the activation), ``hidden<n>`` (the pooled feature, n the number of
    layers), ``fc``.

    Args:
        input_shape: ``(C, T)`` or ``(C, H, W)``.
        hidden: Channels of the layers; the last is the width of the feature.
        classes: Number of classes.
        kernel: Odd kernel size.

    Raises:
        ConfigError: The input has another number of dimensions, or there are no layers.
    """

    def __init__(self, input_shape: Sequence[int], hidden: Sequence[int], *, classes: int, kernel: int = 3) -> None:
        super().__init__()
        dims = len(input_shape) - 1
        if dims not in _CONV or not hidden:
            raise ConfigError(f"inputs are (C, T) or (C, H, W) and need a layer, got {tuple(input_shape)} and {hidden}")
        self.depth, width = len(hidden), input_shape[0]
        for number, out in enumerate(hidden, start=1):
            conv = _CONV[dims](width, out, kernel, 2 if number > 1 or dims == 1 else 1, kernel // 2, bias=False)
            self.add_module(f"map{number}", nn.Sequential(conv, _NORM[dims](out), nn.ReLU()))
            width = out
        self.add_module(f"hidden{self.depth}", nn.Sequential(_POOL[dims](1), nn.Flatten()))
        self.fc = nn.Linear(width, classes)

    def features_and_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map inputs ``(B, ...)`` to the pooled feature ``(B, D)`` and logits ``(B, classes)``."""
        for number in range(1, self.depth + 1):
            x = self.get_submodule(f"map{number}")(x)
        features = self.get_submodule(f"hidden{self.depth}")(x)
        return features, self.fc(features)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs ``(B, ...)`` to logits ``(B, classes)``."""
        return self.features_and_logits(x)[1]
