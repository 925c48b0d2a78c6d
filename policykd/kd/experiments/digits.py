"""The data that systems share: the digits as rows of 64 pixels, split by the seed.

It may use tasks for the images, and knows neither networks nor losses.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from policykd.errors import check_range
from policykd.kd.tasks.base import Split, stratified, with_wrong_labels
from policykd.kd.tasks.digits import all_digits
from policykd.seeding import generator, integer_seed

PIXELS = 64
CLASSES = 10


def digits_rows(seed: int, shares: tuple[float, ...]) -> list[Split]:
    """The 1797 digits as rows ``(N, 64)`` in [0, 1], split stratified by class.

    Args:
        seed: The cell's seed.
        shares: Share of each part, such as ``(0.5, 0.5)``; they sum to one.

    Returns:
        One split per share.

    Raises:
        ValueError: The shares do not sum to one.
    """
    whole = all_digits()
    rows = Split(whole.x.flatten(1), whole.y)
    return [rows.take(part) for part in stratified(rows.y.numpy(), shares, integer_seed(seed, "digits"))]


def some_per_class(split: Split, per_class: int, seed: int) -> Split:
    """A subset with as many samples of every class.

    Args:
        split: Where from.
        per_class: Samples per class.
        seed: The cell's seed.

    Raises:
        ValueError: A class has fewer samples.
    """
    rng, labels = generator(seed, "some per class"), split.y.numpy()
    smallest = int(np.bincount(labels).min())
    if not 1 <= per_class <= smallest:
        raise ValueError(f"per_class must be in [1, {smallest}], got {per_class}")
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in np.unique(labels)]
    return split.take(np.concatenate(chosen))


def some(split: Split, samples: int, seed: int) -> Split:
    """A random subset.

    Args:
        split: Where from.
        samples: Size of the subset.
        seed: The cell's seed.

    Raises:
        ValueError: There are fewer samples.
    """
    if not 1 <= samples <= len(split):
        raise ValueError(f"samples must be in [1, {len(split)}], got {samples}")
    return split.take(torch.from_numpy(generator(seed, "some").permutation(len(split))[:samples].copy()))


def with_label_noise(split: Split, share: float, seed: int) -> Split:
    """The same samples, a share of them with a label drawn uniformly from the other classes.

    Args:
        split: Digits.
        share: Share of wrong labels, in [0, 1].
        seed: The cell's seed.

    Raises:
        ConfigError: The share is out of range.
    """
    check_range("share", share, 0.0, 1.0)
    labels = with_wrong_labels(split.y.numpy(), share, CLASSES, generator(seed, "label noise"))
    return Split(split.x, torch.from_numpy(labels))


class LabeledDraws:
    """Small labeled batches, drawn without replacement for every step, next to the batches of a pool without labels.

    Args:
        data: The labeled samples.
        size: Samples per step.
        seed: The cell's seed; equal seeds give equal draws.

    Raises:
        ConfigError: There are fewer samples than one step takes.
    """

    def __init__(self, data: Split, size: int, seed: int) -> None:
        check_range("labeled samples per step", size, 1, len(data))
        self._data, self._size, self._rng = data, size, generator(seed, "labelled draws")

    def draw(self) -> Split:
        """Return the next batch."""
        return self._data.take(self._rng.permutation(len(self._data))[: self._size])


def redrawn_labels(labels: Tensor, share: float, *, seed: int, purpose: str, classes: int = CLASSES) -> Tensor:
    """Return labels of which a share is redrawn uniformly from all classes, so that some stay right by chance.

    Args:
        labels: Labels ``(N,)``.
        share: Probability that a label is redrawn, in [0, 1].
        seed: The cell's seed.
        purpose: What the noise is for; equal purposes give equal noise.
        classes: Number of classes.

    Returns:
        ``(N,)``, a new tensor.

    Raises:
        ConfigError: The share is outside [0, 1].
    """
    check_range("share", share, 0, 1)
    rng = generator(seed, "label noise", purpose)
    changed, drawn = rng.uniform(size=len(labels)) < share, rng.integers(0, classes, len(labels))
    return torch.where(torch.from_numpy(changed), torch.from_numpy(drawn), labels)
