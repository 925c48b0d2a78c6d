"""What a task is: data in fixed splits, and the two networks that are compared on it.

It provides data and networks; training and comparison are left to the benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

Network = Callable[[], nn.Module]
STAGE_TAPS: Mapping[str, tuple[str, ...]] = {
    "features": ("pool",),
    "map": ("layer3",),
    "levels": ("layer1", "layer2", "layer3"),
}


@dataclass(frozen=True)
class Split:
    """Samples and labels.

    Attributes:
        x: Inputs ``(N, ...)`` in float32.
        y: Labels ``(N,)`` in int64.
        groups: Person, speaker or recording of every sample ``(N,)`` in int64; None if the data do not tell.
    """

    x: Tensor
    y: Tensor
    groups: Tensor | None = None

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"{len(self.x)} inputs but {len(self.y)} labels")
        if self.groups is not None and len(self.groups) != len(self.y):
            raise ValueError(f"{len(self.groups)} groups but {len(self.y)} labels")

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: Tensor | np.ndarray) -> Split:
        """The samples at these positions."""
        index = torch.as_tensor(index)
        return Split(self.x[index], self.y[index], None if self.groups is None else self.groups[index])


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        name: Its name in the registry.
        train: What the student learns from.
        val: For selection and tuning.
        test: For the final figure only.
        classes: Number of classes C; labels are in [0, C).
        student: Makes the small network.
        teacher: Makes the large network.
        teacher_train: What the teacher learns from, where that is more than ``train``.
        unlabeled: Inputs without labels that the student may be distilled on.
        true_targets: The right labels of ``train`` where its own were corrupted.
        taps: Tap paths that both networks have: ``features`` (a vector), ``map`` (the last map), ``levels`` (several).
        about: One sentence on what the data are.
    """

    name: str
    train: Split
    val: Split
    test: Split
    classes: int
    student: Network
    teacher: Network
    teacher_train: Split | None = None
    unlabeled: Tensor | None = None
    true_targets: Tensor | None = None
    taps: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(STAGE_TAPS))
    about: str = ""

    def __post_init__(self) -> None:
        for name in ("train", "val", "test"):
            labels = getattr(self, name).y
            if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < self.classes):
                span = f"{int(labels.min())} to {int(labels.max())}"
                raise ValueError(f"task {self.name!r}: {name} has labels {span}, expected 0 to {self.classes - 1}")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.train.x.shape[1:])

    @property
    def for_teacher(self) -> Split:
        """What the teacher learns from."""
        return self.train if self.teacher_train is None else self.teacher_train


def stratified(labels: Sequence[int] | np.ndarray, shares: Sequence[float], seed: int) -> list[np.ndarray]:
    """Split positions so that every class is shared out alike.

    Args:
        labels: Class of every sample.
        shares: Share of each part; they sum to one.
        seed: Seeds the draw.

    Returns:
        Sorted positions of each part; together they are all positions, once each.

    Raises:
        ValueError: The shares do not sum to one, or a class is too small to be in every part.
    """
    if abs(sum(shares) - 1.0) > 1e-9 or min(shares) <= 0:
        raise ValueError(f"shares must be positive and sum to one, got {tuple(shares)}")
    labels, generator = np.asarray(labels), np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in shares]
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        cuts = np.round(np.cumsum(shares)[:-1] * len(rows)).astype(int)
        for part, piece in zip(parts, np.split(rows, cuts), strict=True):
            if not len(piece):
                raise ValueError(f"class {label} has {len(rows)} sample(s), too few for {len(shares)} parts")
            part.append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]


def with_wrong_labels(labels: np.ndarray, share: float, classes: int, generator: np.random.Generator) -> np.ndarray:
    """Labels of which a share is wrong, uniformly over the other classes.

    Args:
        labels: Class of every sample ``(N,)``.
        share: Share of wrong labels, in [0, 1]; rounded to whole samples.
        classes: Number of classes.
        generator: What draws.

    Returns:
        A changed copy.
    """
    noisy = labels.copy()
    wrong = generator.permutation(len(labels))[: round(share * len(labels))]
    noisy[wrong] = (noisy[wrong] + generator.integers(1, classes, len(wrong))) % classes
    return noisy
