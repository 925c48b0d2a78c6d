"""Small networks: an MLP and LeNet.

They are plain modules without any knowledge of distillation.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn


class MLP(nn.Module):
    """A fully connected network over flattened inputs.

    Tap paths: ``hidden1`` ... ``hidden<n>`` (after the activation), ``fc``.

    Args:
        input_shape: Shape of one sample.
        hidden: Widths of the hidden layers.
        classes: Number of classes.
        dropout: Dropout after every hidden layer.
        norm: Batch normalization before every activation.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        hidden: Sequence[int] = (64, 64),
        *,
        classes: int = 10,
        dropout: float = 0.0,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        width = prod(input_shape)
        self.depth = len(hidden)
        for number, out in enumerate(hidden, start=1):
            drop = [nn.Dropout(dropout)] if dropout else []
            norms = [nn.BatchNorm1d(out)] if norm else []
            self.add_module(f"hidden{number}", nn.Sequential(nn.Linear(width, out), *norms, nn.ReLU(), *drop))
            width = out
        self.fc = nn.Linear(width, classes)

    def features_and_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(B, ...)`` to the last hidden layer ``(B, D)`` after its activation, and logits ``(B, classes)``."""
        features = self.flatten(x)
        for number in range(1, self.depth + 1):
            features = self.get_submodule(f"hidden{number}")(features)
        return features, self.fc(features)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, ...)`` to logits ``(B, classes)``."""
        return self.features_and_logits(x)[1]


class LeNet(nn.Module):
    """LeNet-5 (LeCun et al. 1998) with ReLU and max-pooling, for square images.

    On 28 x 28 the first convolution pads by 2 as in the paper's 32 x 32 frame; images below 20 pixels keep their size
    in both convolutions. Tap paths: ``conv1``, ``conv2``, ``fc1``, ``fc2``, ``fc``.

    Args:
        input_shape: ``(C, H, W)``.
        classes: Number of classes.
    """

    def __init__(self, input_shape: Sequence[int] = (1, 28, 28), *, classes: int = 10) -> None:
        super().__init__()
        channels, side, _ = input_shape
        first, second = (2 if side <= 28 else 0), (2 if side < 20 else 0)
        self.conv1 = nn.Sequential(nn.Conv2d(channels, 6, 5, padding=first), nn.ReLU(), nn.MaxPool2d(2))
        self.conv2 = nn.Sequential(nn.Conv2d(6, 16, 5, padding=second), nn.ReLU(), nn.MaxPool2d(2))
        side = (side + 2 * first - 4) // 2
        side = (side + 2 * second - 4) // 2
        self.flatten = nn.Flatten()
        self.fc1 = nn.Sequential(nn.Linear(16 * side * side, 120), nn.ReLU())
        self.fc2 = nn.Sequential(nn.Linear(120, 84), nn.ReLU())
        self.fc = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)`` to logits ``(B, classes)``."""
        return self.fc(self.fc2(self.fc1(self.flatten(self.conv2(self.conv1(x))))))
