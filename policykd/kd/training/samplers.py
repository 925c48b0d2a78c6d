"""Batches with a chosen make-up of classes, for losses that compare the samples of a batch with one another.

Both samplers are batch samplers for ``DataLoader(batch_sampler=...)`` and, through ``epoch(number)``, for one's own
loop. Like ``policykd.kd.training.batches`` they make an epoch a pure function of (seed, epoch).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data import Sampler

from policykd.errors import ConfigError

_Rows = dict[int, np.ndarray]  # class -> positions of its samples


class _ClassBatches(Sampler[list[int]]):
    """Batches of c classes with k samples each, drawn inside groups of classes."""

    def __init__(self, groups: Sequence[_Rows], *, classes: int, per_class: int, seed: int) -> None:
        self.classes, self.per_class, self.seed = classes, per_class, seed
        self._groups, self._next = groups, 0
        for rows in groups:
            _check_make_up(rows, classes, per_class)

    @property
    def batch_size(self) -> int:
        """Samples per batch, c k."""
        return self.classes * self.per_class

    def epoch(self, number: int) -> Iterator[list[int]]:
        """The batches of an epoch, as positions in the data."""
        generator = np.random.default_rng([self.seed, number])
        batches = [
            batch for rows in self._groups for batch in _class_batches(rows, self.classes, self.per_class, generator)
        ]
        for place in generator.permutation(len(batches)):
            yield batches[place]

    def set_epoch(self, number: int) -> None:
        """Make the next iteration this epoch, for a resumed run; iterations count up by themselves."""
        self._next = number

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of the next epoch."""
        self._next += 1
        return self.epoch(self._next - 1)

    def __len__(self) -> int:
        """Batches per epoch; all epochs have as many."""
        sizes = ([len(own) // self.per_class for own in rows.values()] for rows in self._groups)
        return sum(_count_batches(groups, self.classes) for groups in sizes)


class ClassUniformSampler(_ClassBatches):
    """Class-uniform random (CUR) batches: c different classes with k samples each (Peng et al. 2019).

    The samples of a class are shuffled and cut into groups of k; a batch takes one group of each of the c classes that
    have most groups left, ties drawn at random. So an epoch shows every sample once but for the remainder: less than k
    samples per class, and groups that no c - 1 other classes are left for. Another epoch has another remainder.

    Args:
        labels: Class of every sample ``(N,)``.
        classes: c, classes per batch.
        per_class: k, samples per class in a batch.
        seed: Seeds all epochs.

    Raises:
        ConfigError: Fewer than c classes have k samples.
    """

    def __init__(self, labels: ArrayLike | Tensor, *, classes: int, per_class: int, seed: int = 0) -> None:
        super().__init__([_rows_by_class(labels)], classes=classes, per_class=per_class, seed=seed)


class SuperclassUniformSampler(_ClassBatches):
    """Super-class-uniform random (SUR) batches: the classes of a batch are confusable ones (Peng et al. 2019).

    Classes are grouped into super-classes (see ``super_classes``); every batch is a class-uniform one inside a single
    super-class, and the batches of all super-classes come in random order.

    Args:
        labels: Class of every sample ``(N,)``.
        superclass: Super-class of every class, indexed by class ``(C,)``.
        classes: c, classes per batch.
        per_class: k, samples per class in a batch.
        seed: Seeds all epochs.

    Raises:
        ConfigError: A super-class has fewer than c classes with k samples, or a label has no super-class.
    """

    def __init__(
        self,
        labels: ArrayLike | Tensor,
        superclass: ArrayLike | Tensor,
        *,
        classes: int,
        per_class: int,
        seed: int = 0,
    ) -> None:
        rows, groups = _rows_by_class(labels), np.asarray(superclass)
        if max(rows) >= len(groups) or min(rows) < 0:
            raise ConfigError(f"labels go from {min(rows)} to {max(rows)}, super-classes are given for {len(groups)}")
        names = groups[list(rows)]
        inside = [{label: rows[label] for label in rows if groups[label] == name} for name in np.unique(names)]
        super().__init__(inside, classes=classes, per_class=per_class, seed=seed)


def super_classes(features: Tensor, labels: Tensor, count: int, *, smallest: int = 1, seed: int = 0) -> Tensor:
    """Group classes whose centers in the teacher's feature space lie together, by k-means (Peng et al. 2019).

    Departure: k-means may leave super-classes of one class, which hold no confusable pair. Those with fewer than
    ``smallest`` classes are joined to the one with the nearest center.

    Args:
        features: Teacher features of the training data ``(N, D)``.
        labels: Classes ``(N,)`` in [0, C), every class present.
        count: Super-classes that k-means looks for, at most C.
        smallest: Least number of classes in a super-class, at most C.
        seed: Seeds k-means.

    Returns:
        Super-class of every class ``(C,)`` in int64, numbered from 0 without gaps.

    Raises:
        ValueError: A class has no sample.
        ConfigError: ``count`` or ``smallest`` is out of range.
    """
    from sklearn.cluster import KMeans

    sizes = torch.bincount(labels)
    if not bool((sizes > 0).all()):
        raise ValueError(f"class {int((sizes == 0).nonzero()[0])} has no sample: its center is unknown")
    if not (1 <= count <= len(sizes) and 1 <= smallest <= len(sizes)):
        raise ConfigError(f"count and smallest must be in [1, {len(sizes)}], got {count} and {smallest}")
    flat = features.detach().double().cpu().flatten(1)
    sums = torch.zeros(len(sizes), flat.shape[1], dtype=flat.dtype).index_add_(0, labels.cpu(), flat)
    centers = (sums / sizes.cpu()[:, None]).numpy()
    groups = KMeans(count, n_init=10, random_state=seed).fit_predict(centers)
    return torch.from_numpy(_join_small(groups, centers, smallest))


def same_class_share(labels: ArrayLike | Tensor) -> float:
    """Share of the pairs of different samples of a batch, labels ``(B,)`` with ``B >= 2``, that have one class."""
    own = np.asarray(labels)
    same = np.triu(own[:, None] == own[None], 1).sum()
    return float(same) / (len(own) * (len(own) - 1) / 2)


def _rows_by_class(labels: ArrayLike | Tensor) -> _Rows:
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers (N,), N >= 1, got {labels.dtype} {labels.shape}")
    return {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}


def _check_make_up(rows: _Rows, classes: int, per_class: int) -> None:
    if classes < 1 or per_class < 1:
        raise ConfigError(f"classes and per_class must be at least 1, got {classes} and {per_class}")
    enough = sum(len(own) >= per_class for own in rows.values())
    if enough < classes:
        raise ConfigError(
            f"a batch needs {classes} classes with {per_class} samples each, but of classes {sorted(rows)} "
            f"only {enough} have that many"
        )


def _class_batches(rows: _Rows, classes: int, per_class: int, generator: np.random.Generator) -> Iterator[list[int]]:
    labels = list(rows)
    groups = {label: _groups_of(rows[label], per_class, generator) for label in labels}
    while True:
        left = np.array([len(groups[label]) for label in labels])
        # most groups left first: this order leaves the fewest groups over
        chosen = np.lexsort((generator.random(len(left)), -left))[:classes]
        if left[chosen[-1]] == 0:
            return
        yield [row for place in generator.permutation(chosen) for row in groups[labels[place]].pop()]


def _groups_of(rows: np.ndarray, size: int, generator: np.random.Generator) -> list[list[int]]:
    whole = len(rows) // size * size
    return generator.permutation(rows)[:whole].reshape(-1, size).tolist()


def _count_batches(groups: Sequence[int], classes: int) -> int:
    """The largest b such that b batches of different classes can be filled: sum_i min(g_i, b) >= b c."""
    sizes = np.asarray(groups)
    return next(b for b in range(int(sizes.sum()) // classes, -1, -1) if np.minimum(sizes, b).sum() >= b * classes)


def _join_small(groups: np.ndarray, centers: np.ndarray, smallest: int) -> np.ndarray:
    groups = groups.copy()
    while True:
        names, sizes = np.unique(groups, return_counts=True)
        if sizes.min() >= smallest:
            return np.searchsorted(names, groups).astype(np.int64)
        small, others = names[sizes.argmin()], np.delete(names, sizes.argmin())
        middle = centers[groups == small].mean(0)
        gaps = [np.linalg.norm(centers[groups == other].mean(0) - middle) for other in others]
        groups[groups == small] = others[int(np.argmin(gaps))]
