"""Targets that a network's own predictions of the last epoch soften (PS-KD: Kim et al., ICCV 2021, arXiv 2006.12000).

It keeps one row of probabilities per sample and knows neither networks nor losses.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.errors import check_range


def softened_targets(target: Tensor, previous: Tensor, *, epoch: int, epochs: int, share: float = 0.8) -> Tensor:
    """Return ``(1 - a) onehot(y) + a previous`` with ``a = share (epoch + 1) / epochs``, shape ``(B, C)``.

    Args:
        target: Class indices ``(B,)``.
        previous: Probabilities ``(B, C)`` that the network gave one epoch earlier.
        epoch: Number of the epoch, from 0.
        epochs: Epochs of the training.
        share: Share of the prediction in the last epoch, in [0, 1].
    """
    check_range("share", share, 0.0, 1.0)
    check_range("epoch", epoch, 0, epochs - 1)
    own = share * (epoch + 1) / epochs
    return (1.0 - own) * F.one_hot(target, previous.shape[1]).to(previous) + own * previous


class PredictionMemory:
    """The last predictions of every sample; those of the running epoch are read before they are replaced.

    Args:
        samples: Number of samples.
        classes: Number of classes.
    """

    def __init__(self, samples: int, classes: int) -> None:
        self.probabilities = torch.zeros(samples, classes)
        self.known = torch.zeros(samples, dtype=torch.bool)

    def targets(self, index: Tensor, target: Tensor, *, epoch: int, epochs: int, share: float = 0.8) -> Tensor:
        """Return :func:`softened_targets` of a batch; a sample without a prediction keeps its label.

        Args:
            index: Positions of the samples ``(B,)``.
            target: Class indices ``(B,)``.
            epoch: Number of the epoch, from 0.
            epochs: Epochs of the training.
            share: Share of the prediction in the last epoch.
        """
        hard = F.one_hot(target, self.probabilities.shape[1]).float()
        previous = torch.where(self.known[index][:, None], self.probabilities[index], hard)
        return softened_targets(target, previous, epoch=epoch, epochs=epochs, share=share)

    @torch.no_grad()
    def store(self, index: Tensor, logits: Tensor) -> None:
        """Keep the predictions of a batch for the next epoch."""
        self.probabilities[index] = logits.detach().float().softmax(1).cpu()
        self.known[index] = True
