"""Augmented variants of every sample that repeat over epochs, so that a teacher's outputs for them can be stored.

It draws from its own seeded streams, never from the global generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from policykd.errors import check_range
from policykd.kd.objective.inputs import Inputs, count_samples, cut_inputs, map_tensors, tensors_of
from policykd.seeding import integer_seed

Augment: TypeAlias = Callable[[Any, torch.Generator], Any]
"""``(inputs of a batch, generator) -> inputs``; what it draws comes from the generator."""


@dataclass(frozen=True)
class Variants:
    """An augmentation with a fixed number of outcomes per sample: epoch e shows variant ``e % count`` of each.

    What is drawn for a sample depends on the seed, the sample and the variant alone. So a teacher's outputs can be
    stored by :meth:`policykd.kd.training.teacher_cache.TeacherCache.write_variants`. The price is that samples are
    augmented one by one.

    Attributes:
        augment: ``(inputs, generator) -> inputs``.
        count: Variants per sample.
        seed: Seeds all variants.

    Raises:
        ConfigError: ``count`` is below 1.
    """

    augment: Augment
    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("count", self.count, 1, 1_000_000)

    @property
    def identity(self) -> tuple[int, int]:
        """Number of variants and seed, which say together which variants these are."""
        return self.count, self.seed

    def apply(self, x: Inputs, index: Tensor, variant: int) -> Inputs:
        """Augment the samples of a batch.

        Args:
            x: Inputs of the samples.
            index: Their positions in the data set ``(B,)``.
            variant: Which variant, in [0, count).
        """
        parts = []
        for place in range(count_samples(x)):
            generator = torch.Generator().manual_seed(integer_seed(self.seed, "variant", variant, int(index[place])))
            parts.append(self.augment(cut_inputs(x, place, 1), generator))
        columns = zip(*(tensors_of(part) for part in parts), strict=True)
        joined = iter([torch.cat(column) for column in columns])
        return map_tensors(lambda _: next(joined), parts[0])
