"""Networks for self-supervision by rotated views: a classifier with a similarity head on one backbone.

They map images to class logits, and the four rotated views of images to logits and embeddings, as the losses
``selective_kd`` and ``sskd`` take them. Views of one image come one after another, the original first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policykd.errors import ConfigError
from policykd.kd.losses.sskd import VIEWS


def rotated_views(images: Tensor) -> Tensor:
    """Return every image as it is and turned by 90, 180 and 270 degrees.

    Args:
        images: ``(B, C, H, W)``, square.

    Returns:
        ``(B, 4, C, H, W)``: view 0 is the original.

    Raises:
        ValueError: The images are not square.
    """
    if images.dim() != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images must be square, (B, C, H, W), got {tuple(images.shape)}")
    return torch.stack([torch.rot90(images, turns, (2, 3)) for turns in range(VIEWS)], 1)


@dataclass(frozen=True)
class ViewOutputs:
    """Outputs of a network and its head for the views of a batch, four rows after one another per image.

    Attributes:
        logits: Class logits ``(4 B, C)``.
        embeddings: Outputs of the head ``(4 B, d)``.
    """

    logits: Tensor
    embeddings: Tensor


class SimilarityHead(nn.Module):
    """The head ``W_2 relu(W_1 f + b_1) + b_2`` on pooled features, all of one width, that is thrown away in the end.

    Args:
        width: Width d of the features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(N, d)`` to ``(N, d)``."""
        return self.layers(features)


class HeadedCNN(nn.Module):
    """Two convolutions with batch normalization, a linear classifier, and a similarity head on the same features.

    Args:
        widths: Channels of the convolutions; the second is the width of the pooled feature.
        in_channels: Channels of the images.
        classes: Number of classes.

    Raises:
        ConfigError: There are not two widths.
    """

    def __init__(self, widths: tuple[int, ...], *, in_channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        if len(widths) != 2:
            raise ConfigError(f"widths are the channels of two convolutions, got {widths}")
        blocks: list[nn.Module] = []
        for inputs, outputs in ((in_channels, widths[0]), (widths[0], widths[1])):
            blocks += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        blocks.insert(3, nn.MaxPool2d(2))
        self.backbone = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc, self.head = nn.Linear(widths[1], classes), SimilarityHead(widths[1])

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, in_channels, H, W)`` to logits ``(B, classes)``."""
        return self.fc(self.backbone(images))

    def view_features(self, images: Tensor) -> Tensor:
        """Return pooled features ``(4 B, d)`` of the views of square images ``(B, in_channels, H, W)``."""
        return self.backbone(rotated_views(images).flatten(0, 1))

    def outputs(self, images: Tensor) -> ViewOutputs:
        """Return the outputs of classifier and head for the views of square images ``(B, in_channels, H, W)``."""
        features = self.view_features(images)
        return ViewOutputs(self.fc(features), self.head(features))
