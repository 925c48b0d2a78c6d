"""The convolutional network of SSKD: a classifier and a similarity head on one backbone.

It maps images to class logits, and the rotated views of images to logits and embeddings.
"""

from __future__ import annotations

from torch import Tensor, nn

from policykd.errors import ConfigError
from policykd.kd.experiments.digits import CLASSES
from policykd.kd.systems.sskd.self_supervision import SimilarityHead, ViewOutputs, rotated_views


class HeadedCNN(nn.Module):
    """Two convolutions with batch normalization, a linear classifier, and a similarity head on the same features.

    Args:
        widths: Channels of the convolutions; the second is the width of the pooled feature.

    Raises:
        ConfigError: There are not two widths.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        if len(widths) != 2:
            raise ConfigError(f"widths are the channels of two convolutions, got {widths}")
        blocks: list[nn.Module] = []
        for inputs, outputs in ((1, widths[0]), (widths[0], widths[1])):
            blocks += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        blocks.insert(3, nn.MaxPool2d(2))
        self.backbone = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc, self.head = nn.Linear(widths[1], CLASSES), SimilarityHead(widths[1])

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, 1, H, W)`` to logits ``(B, 10)``."""
        return self.fc(self.backbone(images))

    def view_features(self, images: Tensor) -> Tensor:
        """Return pooled features ``(4 B, d)`` of the views of images ``(B, 1, H, W)``."""
        return self.backbone(rotated_views(images).flatten(0, 1))

    def outputs(self, images: Tensor) -> ViewOutputs:
        """Return the outputs of classifier and head for the views of images ``(B, 1, H, W)``."""
        features = self.view_features(images)
        return ViewOutputs(self.fc(features), self.head(features))
