"""A user's ``DataLoader`` as a source of batches: with sample indices, in an order that a resumed run repeats.

Whatever the loader and its data set draw from torch's, NumPy's and Python's global generators follows from the seed and
the epoch, and does not disturb the draws of the training itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from policykd.errors import ConfigError
from policykd.kd.objective.inputs import count_samples
from policykd.kd.training.batches import Batch, Batches, BatchSource
from policykd.kd.training.checkpoint import random_states, restore_random_states
from policykd.kd.training.distributed import rank, world_size
from policykd.kd.training.fields import Fields, as_targets
from policykd.kd.training.variants import Augment, Variants
from policykd.seeding import integer_seed


def batch_source(
    data: Any,
    batch_size: int,
    *,
    seed: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    augment: Augment | Variants | None = None,
    fields: Fields = Fields(),
) -> BatchSource:
    """Return the batches of a data loader, or seeded batches of tensors and data sets.

    Arguments are those of :class:`policykd.kd.training.batches.Batches`. A data loader keeps its own batch
    size, order and last batch.

    Raises:
        ConfigError: The loader cannot be used, or the data are of no known kind.
    """
    if isinstance(data, DataLoader):
        return LoaderBatches(data, seed=seed, augment=augment, fields=fields)
    options: dict[str, Any] = {"seed": seed, "shuffle": shuffle, "drop_last": drop_last, "augment": augment}
    return Batches(data, batch_size, **options, fields=fields, rank=rank(), world=world_size())


class IndexedData:
    """A map-style data set whose samples come with their positions.

    Args:
        data: The data set.
    """

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, position: int) -> tuple[int, Any]:
        return position, self.data[position]


class IndexedCollate:
    """A collate function for :class:`IndexedData`: ``(positions (B,), the loader's own batch)``.

    Args:
        collate: The loader's own collate function.
    """

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, items: Sequence[tuple[int, Any]]) -> tuple[Tensor, Any]:
        """Stack positions and samples."""
        return torch.tensor([position for position, _ in items]), self.collate([item for _, item in items])


class LoaderBatches:
    """The batches of a ``DataLoader``.

    Args:
        loader: The loader. Its data set may be an iterable one; then batches have no sample indices.
        seed: Seeds what loader and data set draw from global generators.
        augment: ``(x, generator) -> x`` on whole batches, or :class:`Variants`.
        fields: Which entries of a batch are what.

    Raises:
        ConfigError: There are several processes, or the loader has no batches or no length.
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        *,
        seed: int = 0,
        augment: Augment | Variants | None = None,
        fields: Fields = Fields(),
    ) -> None:
        if world_size() > 1:
            raise ConfigError(
                "several processes share the batches of tensors and map-style data sets: give the loader's data set"
            )
        self._indexed = not isinstance(loader.dataset, IterableDataset)
        if self._indexed and loader.batch_sampler is None:
            raise ConfigError("the DataLoader must make batches: leave batch_size or batch_sampler in it")
        if isinstance(augment, Variants) and not self._indexed:
            raise ConfigError("Variants need the positions of samples, which an iterable data set does not have")
        self._loader = _with_positions(loader) if self._indexed else loader
        self._seed, self._augment, self._fields = seed, augment, fields
        try:
            self._steps, self.samples = len(loader), len(loader.dataset)  # type: ignore[arg-type]
        except TypeError:
            raise ConfigError("the DataLoader has no length: give its data set a __len__") from None

    def __len__(self) -> int:
        """Steps per epoch."""
        return self._steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step ``start`` on."""
        stream = _OwnStream(integer_seed(self._seed, "loader", epoch))
        with stream.active():
            self._seed_loader(epoch)
            batches = iter(self._loader)
        step = 0
        while True:
            with stream.active():
                item = next(batches, None)
                if item is None:
                    return
                batch = self._read(item, epoch, step) if step >= start else None
            step += 1
            if batch is not None:
                yield batch

    def _seed_loader(self, epoch: int) -> None:
        """Seed the loader's own generators and tell its samplers the epoch."""
        batch_sampler: Any = self._loader.batch_sampler
        samplers: tuple[Any, ...] = (self._loader.sampler, batch_sampler, getattr(batch_sampler, "sampler", None))
        for owner in {id(part): part for part in (self._loader, *samplers) if part is not None}.values():
            if isinstance(drawn := getattr(owner, "generator", None), torch.Generator):
                drawn.manual_seed(integer_seed(self._seed, "loader generator", epoch))
            if hasattr(owner, "set_epoch"):
                owner.set_epoch(epoch)

    def _read(self, item: Any, epoch: int, step: int) -> Batch:
        index, item = item if self._indexed else (None, item)
        parts = self._fields.read(item)
        x, augment = parts.x, self._augment
        batch = Batch(x, as_targets(parts.targets), index, (count_samples(x),), parts.mask, parts.weights)
        if augment is None:
            return batch
        if isinstance(augment, Variants):
            variant = epoch % augment.count
            options = {"variants": augment.identity, "variant_start": self.samples * variant}
            return _changed(batch, x=augment.apply(x, batch.index, variant), augmented=True, **options)
        generator = torch.Generator().manual_seed(integer_seed(self._seed, "augment", epoch, step))
        return _changed(batch, x=augment(x, generator), augmented=True)


def _changed(batch: Batch, **fields: Any) -> Batch:
    return Batch(**(vars(batch) | fields))


def _with_positions(loader: DataLoader[Any]) -> DataLoader[Any]:
    """The same loader over samples with their positions."""
    workers: dict[str, Any] = {}
    if loader.num_workers:
        workers = {
            "prefetch_factor": loader.prefetch_factor,
            "persistent_workers": loader.persistent_workers,
            "multiprocessing_context": loader.multiprocessing_context,
        }
    return DataLoader(
        IndexedData(loader.dataset),  # type: ignore[arg-type]
        batch_sampler=loader.batch_sampler,
        num_workers=loader.num_workers,
        collate_fn=IndexedCollate(loader.collate_fn),
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        generator=loader.generator,
        **workers,
    )


class _OwnStream:
    """Random states of their own, put in place for a while."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._states: dict[str, Any] | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        before = random_states()
        before.pop("cuda", None)  # a loader draws on the CPU
        if self._states is None:
            torch.default_generator.manual_seed(self._seed)
            np.random.seed(self._seed)  # noqa: NPY002 - data sets draw from it
            random.seed(self._seed)
        else:
            restore_random_states(self._states)
        try:
            yield
        finally:
            self._states = random_states()
            self._states.pop("cuda", None)
            restore_random_states(before)


def draws_at_random(data: Any, fields: Fields = Fields(), samples: int = 4) -> bool:
    """Whether a data set gives a sample differently when it is asked twice, as one with random transforms does.

    Args:
        data: What :func:`batch_source` takes.
        fields: Which entries of a sample are what.
        samples: How many samples to look at.
    """
    data = data.dataset if isinstance(data, DataLoader) else data
    whole = isinstance(data, Tensor | dict) or (isinstance(data, tuple | list) and isinstance(data[0], Tensor))
    if whole or isinstance(data, IterableDataset) or not hasattr(data, "__getitem__"):
        return False
    before = random_states()
    try:
        for position in range(min(samples, len(data))):
            first, second = (fields.read(data[position]).x for _ in range(2))
            if not _equal(first, second):
                return True
    except ConfigError:
        return False
    finally:
        restore_random_states(before)
    return False


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return all(_equal(first[key], second[key]) for key in first)
    if isinstance(first, tuple | list):
        return all(_equal(one, two) for one, two in zip(first, second, strict=True))
    return bool(np.array_equal(np.asarray(first), np.asarray(second)))
