"""Batches in a seeded order that is a pure function of (seed, epoch), so that a resumed run sees the same data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from policykd.kd.training.distributed import shares

Augment = Callable[[Tensor, torch.Generator], Tensor]


class Samples(Protocol):
    """A map-style data set of pairs (x, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Any: ...


@dataclass(frozen=True)
class Batch:
    """One process's share of a batch.

    Attributes:
        x: Inputs ``(b, ...)``.
        targets: Labels ``(b,)``.
        index: Positions of the samples in the data set ``(b,)``.
        sizes: The share of every process, in order.
    """

    x: Tensor
    targets: Tensor
    index: Tensor
    sizes: tuple[int, ...]

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(self.x.to(device), self.targets.to(device), self.index.to(device), self.sizes)


class Batches:
    """Seeded batches over tensors or a map-style data set.

    Args:
        data: A pair of tensors (x, y), anything with attributes ``x`` and ``y``, or a data set of pairs.
        batch_size: Samples per step over all processes.
        seed: Seeds order and augmentation.
        shuffle: Draw a new order every epoch.
        drop_last: Leave out an incomplete last batch.
        augment: ``(x, generator) -> x``, applied to the whole batch of tensors before it is shared out.
        rank: Which share this process takes.
        world: Number of shares.

    Raises:
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
        augment: Augment | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._tensors, self._samples = _as_tensors(data), data
        self.samples = len(self._tensors[0]) if self._tensors else len(data)
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
        if self._tensors is not None:
            # the whole batch is augmented, so that the number of processes does not change what is drawn
            x, y = self._tensors
            whole = x[torch.from_numpy(rows)]
            x = self.augment(whole, generator)[share] if self.augment else whole[share]
            return Batch(x, y[index], index, sizes)
        pairs = [self._samples[int(row)] for row in rows[share]]
        x = torch.stack([torch.as_tensor(pair[0]) for pair in pairs])
        if self.augment:
            x = self.augment(x, generator.manual_seed(generator.initial_seed() + self.rank))
        return Batch(x, torch.as_tensor([int(pair[1]) for pair in pairs]), index, sizes)


def _as_tensors(data: Any) -> tuple[Tensor, Tensor] | None:
    if hasattr(data, "x") and hasattr(data, "y"):
        data = (data.x, data.y)
    if isinstance(data, Sequence) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        x, y = data
        if len(x) != len(y):
            raise ValueError(f"{len(x)} inputs but {len(y)} labels")
        return x, y
    return None
