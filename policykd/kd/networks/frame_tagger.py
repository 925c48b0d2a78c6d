"""A tagger of clips of frames, for systems that compare frame-level activations.

It maps clips to one logit per tag and is built by systems, not by name.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class FrameTagger(nn.Module):
    """A tagger of clips: an MLP on every frame, frame logits averaged over time and scaled.

    Args:
        width: Size of a frame.
        hidden: Widths of the hidden layers; the last one is the frame-level activation.
        tags: Number of tags.
        scale: Factor of the averaged logits, since an event fills only some frames of its clip.
    """

    def __init__(self, width: int, hidden: tuple[int, ...], tags: int, *, scale: float = 3.0) -> None:
        super().__init__()
        widths = (width, *hidden)
        layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
        self.layers, self.fc, self.scale = nn.Sequential(*layers), nn.Linear(widths[-1], tags), scale

    def frames(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Return frame-level activations ``(B, T, H)`` and logits ``(B, C)`` of clips ``(B, T, D)``."""
        features = self.layers(clips)
        return features, self.scale * self.fc(features).mean(1)

    def forward(self, clips: Tensor) -> Tensor:
        """Map clips ``(B, T, D)`` to logits ``(B, C)``."""
        return self.frames(clips)[1]
