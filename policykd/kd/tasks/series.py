"""Generated multichannel time series, like those of body-worn sensors.

A class has a base frequency, a harmonic, and a gain and phase lag per channel. Each series draws its tempo, its start
and slowly varying noise that is shared between channels, so that a class shows in how channels move together.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from policykd.kd.networks import CNN1d
from policykd.kd.tasks.base import Split, Task
from policykd.kd.tasks.registry import register


def sensor_series(
    labels: np.ndarray, *, classes: int, channels: int, length: int, similarity: float, noise: float, seed: int
) -> np.ndarray:
    """Draw one series per label.

    Args:
        labels: Class of each series ``(N,)``.
        classes: Number of classes.
        channels: Channels C.
        length: Time steps T.
        similarity: How alike the classes are, in [0, 1].
        noise: Standard deviation of the noise.
        seed: Fixes classes and, with the number of labels, the draws.

    Returns:
        Series ``(N, C, T)`` in float32.
    """
    shared, own = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    draw, apart = np.random.default_rng([seed, 2, len(labels)]), 1.0 - similarity
    frequency = 4.0 + apart * own.uniform(-2, 2, classes)
    gain = shared.normal(size=(2, channels)) + apart * own.normal(size=(classes, 2, channels))
    lag = shared.uniform(0, 2 * np.pi, (2, channels)) + apart * own.uniform(-np.pi, np.pi, (classes, 2, channels))
    count, time = len(labels), np.arange(length) / length
    tempo = frequency[labels] * draw.lognormal(0, 0.08, count)
    start = draw.uniform(0, 1, count)
    angle = 2 * np.pi * tempo[:, None] * (time + start[:, None])
    series = np.zeros((count, channels, length))
    for harmonic in (0, 1):
        wave = np.cos((harmonic + 1) * angle[:, None, :] + lag[labels, harmonic][:, :, None])
        series += gain[labels, harmonic][:, :, None] * wave
    drift = np.cumsum(draw.normal(0, noise / np.sqrt(length), (count, 1, length)), axis=2)
    return (series + drift + draw.normal(0, noise, series.shape)).astype(np.float32)


@register("timeseries")
def timeseries(
    *,
    classes: int = 6,
    channels: int = 6,
    length: int = 128,
    similarity: float = 0.7,
    noise: float = 2.0,
    train: int = 900,
    val: int = 300,
    test: int = 600,
    seed: int = 0,
) -> Task:
    """Generated multichannel time series ``(C, T)``.

    Args:
        classes: Number of classes.
        channels: Channels.
        length: Time steps.
        similarity: How alike the classes are: 0 easy, 1 chance.
        noise: Standard deviation of the noise.
        train: Training series.
        val: Validation series.
        test: Test series.
        seed: Seeds classes and series.

    Raises:
        ValueError: The similarity is out of range or a split holds fewer series than classes.
    """
    if not 0 <= similarity <= 1:
        raise ValueError(f"similarity must be in [0, 1], got {similarity}")
    if min(train, val, test) < classes:
        raise ValueError(f"every split needs at least one series per class ({classes}), got {train}, {val}, {test}")
    labels = np.arange(train + val + test) % classes
    options = {"classes": classes, "channels": channels, "length": length, "similarity": similarity, "noise": noise}
    x = sensor_series(labels, **options, seed=seed)  # type: ignore[arg-type]
    whole = Split(torch.from_numpy(x / x.std()), torch.from_numpy(labels))
    parts = [whole.take(rows) for rows in np.split(np.arange(len(labels)), [train, train + val])]

    def student() -> nn.Module:
        return CNN1d(channels, (8, 8, 16), classes=classes)

    def teacher() -> nn.Module:
        return CNN1d(channels, (32, 64, 128), classes=classes)

    return Task(
        "timeseries",
        parts[0],
        parts[1],
        parts[2],
        classes,
        student,
        teacher,
        about=f"generated series of {channels} channels and {length} steps",
    )
