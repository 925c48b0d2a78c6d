"""Handwritten digits: 1797 real 8 x 8 images that come with scikit-learn, and three harder versions.

- few labels: the student sees some labels per class, the rest as unlabeled inputs; the teacher saw all labels;
- noisy labels: a share of the student's training labels is replaced by a random other class;
- missing class: the student's data lack some classes altogether, which only the teacher knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from policykd.kd.networks import ResNet
from policykd.kd.tasks.base import Split, Task, stratified, with_wrong_labels
from policykd.kd.tasks.registry import register

_CLASSES = 10


def _student() -> nn.Module:
    return ResNet(8, (4, 4, 8, 16), classes=_CLASSES, in_channels=1)


def _teacher() -> nn.Module:
    return ResNet(14, (16, 16, 32, 64), classes=_CLASSES, in_channels=1)


@lru_cache(maxsize=1)
def all_digits() -> Split:
    """All 1797 images ``(N, 1, 8, 8)`` with values in [0, 1], in the package's order.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits  # ships with the package; nothing is downloaded
    except ImportError:
        raise ImportError("the digits come with scikit-learn: pip install 'policykd[kd]'") from None
    bunch = load_digits()
    x = torch.from_numpy(bunch.images.astype(np.float32) / 16.0)
    return Split(x[:, None], torch.from_numpy(bunch.target.astype(np.int64)))


@register("digits")
def digits(*, seed: int = 0) -> Task:
    """All labels: 60 % training, 20 % validation, 20 % test, stratified.

    Args:
        seed: Seeds the split.
    """
    data = all_digits()
    train, val, test = stratified(data.y.numpy(), (0.6, 0.2, 0.2), seed)
    return Task(
        "digits",
        data.take(train),
        data.take(val),
        data.take(test),
        _CLASSES,
        _student,
        _teacher,
        about="8 x 8 gray images of handwritten digits, 1797 samples",
    )


@register("digits-few-label")
def digits_few_label(*, per_class: int = 5, seed: int = 0) -> Task:
    """A few labels per class; the other training images are there without labels.

    Args:
        per_class: Labels per class.
        seed: Seeds the split and the choice.

    Raises:
        ValueError: A class has fewer training samples.
    """
    whole = digits(seed=seed)
    labels, generator = whole.train.y.numpy(), np.random.default_rng([seed, 1])
    smallest = int(np.bincount(labels).min())
    if not 1 <= per_class <= smallest:
        raise ValueError(f"per_class must be in [1, {smallest}], got {per_class}")
    chosen = [generator.permutation(np.flatnonzero(labels == label))[:per_class] for label in range(_CLASSES)]
    kept = np.sort(np.concatenate(chosen))
    rest = np.setdiff1d(np.arange(len(labels)), kept)
    return replace(
        whole,
        name="digits-few-label",
        train=whole.train.take(kept),
        teacher_train=whole.train,
        unlabeled=whole.train.x[torch.from_numpy(rest)],
        about=f"digits with {per_class} labels per class",
    )


@register("digits-noisy-label")
def digits_noisy_label(*, noise: float = 0.4, seed: int = 0) -> Task:
    """A share of the training labels is wrong, uniformly over the other classes; validation and test labels are right.

    Args:
        noise: Share of wrong labels, in [0, 1).
        seed: Seeds the split and the noise.

    Raises:
        ValueError: The share is out of range.
    """
    if not 0 <= noise < 1:
        raise ValueError(f"noise must be in [0, 1), got {noise}")
    whole, generator = digits(seed=seed), np.random.default_rng([seed, 2])
    labels = with_wrong_labels(whole.train.y.numpy(), noise, _CLASSES, generator)
    return replace(
        whole,
        name="digits-noisy-label",
        train=Split(whole.train.x, torch.from_numpy(labels)),
        teacher_train=whole.train,
        true_targets=whole.train.y,
        about=f"digits with {noise:.0%} wrong training labels",
    )


@register("digits-missing-class")
def digits_missing_class(*, missing: Sequence[int] = (3,), seed: int = 0) -> Task:
    """The student's training data hold no sample of some classes; the teacher's do, and so do validation and test.

    Args:
        missing: The classes that the student never sees.
        seed: Seeds the split.

    Raises:
        ValueError: A class does not exist, or none would be left.
    """
    lacking = sorted(set(missing))
    if not lacking or not set(lacking) < set(range(_CLASSES)):
        raise ValueError(f"missing must name some but not all classes in [0, {_CLASSES - 1}], got {tuple(missing)}")
    whole = digits(seed=seed)
    kept = np.flatnonzero(~np.isin(whole.train.y.numpy(), lacking))
    return replace(
        whole,
        name="digits-missing-class",
        train=whole.train.take(kept),
        teacher_train=whole.train,
        about=f"digits whose student data lack {', '.join(map(str, lacking))}",
    )
