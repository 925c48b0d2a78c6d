"""Batches in a seeded order that is a pure function of (seed, epoch), so that a resumed run sees the same data.

It holds no state: a batch depends on its arguments alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from policykd.errors import ConfigError
from policykd.kd.objective.inputs import Inputs, count_samples, map_tensors, tensors_of
from policykd.kd.tasks.base import Split
from policykd.kd.training.distributed import shares
from policykd.kd.training.fields import Fields, Parts, as_targets, collate
from policykd.kd.training.variants import Augment, Variants


@dataclass(frozen=True)
class Batch:
    """One process's share of a batch.

    Attributes:
        x: Inputs ``(b, ...)``: a tensor, or a mapping or tuple of them.
        targets: Labels, batch first; None without.
        index: Positions of the samples in the data set ``(b,)``; None where the data have none.
        sizes: The share of every process, in order.
        mask: Which events exist, batch first; None for all.
        weights: Weights of the samples ``(b,)``; None for equal ones.
        augmented: Whether the inputs differ from those in the data set.
        variants: Number and seed of the variants of every sample; None unless the augmentation is a :class:`Variants`.
        variant_start: Row of a teacher's stored outputs at which those of the batch's variant begin.
    """

    x: Any
    targets: Any
    index: Any
    sizes: tuple[int, ...]
    mask: Tensor | None = None
    weights: Tensor | None = None
    augmented: bool = False
    variants: tuple[int, int] | None = None
    variant_start: int = 0

    @property
    def teacher_index(self) -> Any:
        """Rows of a teacher's stored outputs ``(b,)``: the index, moved on to the rows of the batch's variant."""
        return self.index + self.variant_start if self.variant_start else self.index

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        names = ("x", "targets", "index", "mask", "weights")
        moved = {name: map_tensors(lambda t: t.to(device), getattr(self, name)) for name in names}
        return replace(self, **moved)


class BatchSource(Protocol):
    """What a training loop takes batches from."""

    samples: int

    def __len__(self) -> int:
        """Steps per epoch."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step ``start`` on."""
        ...


class Batches:
    """Seeded batches over tensors or a map-style data set.

    Args:
        data: A pair of tensors (x, y), a :class:`policykd.kd.tasks.base.Split`, a ``TensorDataset`` of two, a mapping
            of tensors, or a map-style data set whose samples ``fields`` can read.
        batch_size: Samples per step over all processes.
        seed: Seeds order and augmentation.
        shuffle: Draw a new order every epoch.
        drop_last: Leave out an incomplete last batch.
        augment: ``(x, generator) -> x``, applied to the whole batch of tensors before it is shared out; or
            :class:`Variants`.
        fields: Which entries of a sample are what.
        rank: Which share this process takes.
        world: Number of shares.

    Raises:
        ConfigError: The data are of none of these kinds.
        ValueError: Inputs and labels differ in number, or there is no full batch.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        augment: Augment | Variants | None = None,
        fields: Fields = Fields(),
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._fields, self._tensors, self._data = fields, _as_tensors(data, fields), data
        self.samples = count_samples(self._tensors.x) if self._tensors else _count(data)
        self.batch_size, self.seed, self.shuffle, self.augment = batch_size, seed, shuffle, augment
        self.rank, self.world = rank, world
        starts = range(0, self.samples, batch_size)
        cut = drop_last or (self.samples % batch_size and self.samples % batch_size < world)
        self._starts = [start for start in starts if not cut or start + batch_size <= self.samples]
        if not self._starts:
            raise ValueError(f"{self.samples} sample(s) give no batch of {batch_size} over {world} process(es)")

    def __len__(self) -> int:
        """Steps per epoch."""
        return len(self._starts)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step ``start`` on."""
        order = np.arange(self.samples)
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.samples)
        for step in range(start, len(self)):
            rows = order[self._starts[step] : self._starts[step] + self.batch_size]
            yield self._load(rows, epoch, step)

    def _load(self, rows: np.ndarray, epoch: int, step: int) -> Batch:
        sizes = tuple(shares(len(rows), self.world))
        share = slice(sum(sizes[: self.rank]), sum(sizes[: self.rank + 1]))
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence([self.seed, epoch, step]).generate_state(1)[0])
        )
        index = torch.from_numpy(rows[share].copy())
        if self._tensors is None:
            return self._load_samples(rows[share], index, sizes, epoch, generator)
        own = self._tensors
        if self.augment is None or isinstance(self.augment, Variants):
            x = self._varied(map_tensors(lambda t: t[index], own.x), index, epoch)
        else:
            # the whole batch is augmented, so that the number of processes does not change what is drawn
            whole = self.augment(map_tensors(lambda t: t[torch.from_numpy(rows)], own.x), generator)
            x = map_tensors(lambda t: t[share], whole)
        parts = (None if part is None else part[index] for part in own[1:])
        return self._batch(Parts(x, *parts), index, sizes, epoch)

    def _load_samples(
        self, rows: np.ndarray, index: Tensor, sizes: tuple[int, ...], epoch: int, generator: torch.Generator
    ) -> Batch:
        parts = self._fields.read(collate([self._data[int(row)] for row in rows]))
        x = parts.x
        if self.augment is None or isinstance(self.augment, Variants):
            x = self._varied(x, index, epoch)
        else:
            x = self.augment(x, generator.manual_seed(generator.initial_seed() + self.rank))
        return self._batch(Parts(x, as_targets(parts.targets), *parts[2:]), index, sizes, epoch)

    def _varied(self, x: Inputs, index: Tensor, epoch: int) -> Inputs:
        return x if self.augment is None else self.augment.apply(x, index, epoch % self.augment.count)  # type: ignore[union-attr]

    def _batch(self, parts: Parts, index: Tensor, sizes: tuple[int, ...], epoch: int) -> Batch:
        batch = Batch(parts.x, parts.targets, index, sizes, parts.mask, parts.weights)
        if self.augment is None:
            return batch
        if not isinstance(self.augment, Variants):
            return replace(batch, augmented=True)
        start = self.samples * (epoch % self.augment.count)
        return replace(batch, augmented=True, variants=self.augment.identity, variant_start=start)


def _as_tensors(data: Any, fields: Fields) -> Parts | None:
    """The parts of data that are tensors as a whole; None for data sets that give sample after sample.

    A data set that happens to have attributes ``x`` and ``y`` is not one: its ``__getitem__`` may transform them.
    """
    if isinstance(data, Split):
        parts = Parts(data.x, data.y)
    elif type(data) is TensorDataset and len(data.tensors) <= 2:
        parts = fields.read(data.tensors)
    elif isinstance(data, Tensor) or _of_tensors(data):
        parts = fields.read(data)
    else:
        return None
    parts = parts._replace(targets=as_targets(parts.targets))
    count = count_samples(parts.x)
    for part, what in ((parts.targets, "labels"), (parts.mask, "rows of the mask"), (parts.weights, "weights")):
        if part is not None and len(part) != count:
            raise ValueError(f"{count} inputs but {len(part)} {what}")
    if any(len(tensor) != count for tensor in tensors_of(parts.x)):
        raise ValueError(f"the inputs differ in number: {[len(tensor) for tensor in tensors_of(parts.x)]}")
    return parts


def _of_tensors(data: Any) -> bool:
    if isinstance(data, Mapping):
        return bool(data) and all(isinstance(part, Tensor) for part in data.values())
    return isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)


def _count(data: Any) -> int:
    if isinstance(data, torch.utils.data.DataLoader):
        raise ConfigError("Batches makes its own batches: give a DataLoader to Distiller.fit, or its data set here")
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise ConfigError(
            f"training data are a pair of tensors (x, y), a Split, or a data set with __len__ and __getitem__, not a "
            f"{type(data).__name__}; of an object with x and y give (object.x, object.y)"
        )
    return len(data)
