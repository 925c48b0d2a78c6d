"""Generated textures: 32 x 32 color images of superposed gratings, with a dial for how alike the classes are.

A class is a set of gratings (direction, frequency, color). At ``similarity`` 0 every class has its own; toward 1 all
classes move to common ones, until only chance is left. Each image draws its phases, small turns, contrast and noise, so
that no pixel tells the class: only orientation, scale and color do.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from policykd.kd.networks import ResNet
from policykd.kd.tasks.base import Split, Task
from policykd.kd.tasks.registry import register

_GRATINGS = 3


def texture_images(
    labels: np.ndarray, *, classes: int, similarity: float, noise: float, side: int, seed: int
) -> np.ndarray:
    """Draw one image per label.

    Args:
        labels: Class of each image ``(N,)``.
        classes: Number of classes.
        similarity: How alike the classes are, in [0, 1].
        noise: Standard deviation of the pixel noise; the pattern's own is about one.
        side: Height and width.
        seed: ``seed`` fixes the classes; images are drawn from it and the number of labels.

    Returns:
        Images ``(N, 3, side, side)`` in float32.
    """
    shared, own = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    draw = np.random.default_rng([seed, 2, len(labels)])
    apart = 1.0 - similarity
    angle = shared.uniform(0, np.pi, _GRATINGS) + apart * own.uniform(-np.pi / 2, np.pi / 2, (classes, _GRATINGS))
    frequency = shared.uniform(3, 7, _GRATINGS) + apart * own.uniform(-2, 2, (classes, _GRATINGS))
    color = shared.normal(size=(_GRATINGS, 3)) + apart * own.normal(size=(classes, _GRATINGS, 3))
    count = (len(labels), _GRATINGS)
    turned = angle[labels] + draw.normal(0, 0.08, count)
    scale = 2 * np.pi * frequency[labels] * draw.lognormal(0, 0.05, count) / side
    phase = draw.uniform(0, 2 * np.pi, count)
    tint = color[labels] * draw.lognormal(0, 0.2, (*count, 1))
    rows, columns = np.mgrid[:side, :side].astype(np.float64)
    images = np.zeros((len(labels), 3, side, side), dtype=np.float32)
    for k in range(_GRATINGS):
        across = np.cos(turned[:, k])[:, None, None] * columns + np.sin(turned[:, k])[:, None, None] * rows
        wave = np.cos(scale[:, k, None, None] * across + phase[:, k, None, None])
        images += (tint[:, k, :, None, None] * wave[:, None]).astype(np.float32)
    return images + draw.normal(0, noise, images.shape).astype(np.float32)


@register("textures")
def textures(
    *,
    classes: int = 10,
    similarity: float = 0.65,
    noise: float = 1.5,
    train: int = 1000,
    val: int = 500,
    test: int = 1000,
    side: int = 32,
    seed: int = 0,
) -> Task:
    """Generated textures.

    Args:
        classes: Number of classes.
        similarity: How alike the classes are: 0 easy, 1 chance.
        noise: Standard deviation of the pixel noise.
        train: Training images.
        val: Validation images.
        test: Test images.
        side: Height and width.
        seed: Seeds classes and images.

    Raises:
        ValueError: The similarity is out of range or a split holds fewer images than classes.
    """
    if not 0 <= similarity <= 1:
        raise ValueError(f"similarity must be in [0, 1], got {similarity}")
    if min(train, val, test) < classes:
        raise ValueError(f"every split needs at least one image per class ({classes}), got {train}, {val}, {test}")
    labels = np.arange(train + val + test) % classes  # balanced in every split
    x = texture_images(labels, classes=classes, similarity=similarity, noise=noise, side=side, seed=seed)
    whole = Split(torch.from_numpy(x / x.std()), torch.from_numpy(labels))
    parts = [whole.take(rows) for rows in np.split(np.arange(len(labels)), [train, train + val])]

    def student() -> nn.Module:
        return ResNet(8, (8, 8, 16, 32), classes=classes)

    def teacher() -> nn.Module:
        return ResNet(14, (16, 16, 32, 64), classes=classes)

    return Task(
        "textures",
        parts[0],
        parts[1],
        parts[2],
        classes,
        student,
        teacher,
        about=f"generated {side} x {side} textures, similarity {similarity}",
    )
