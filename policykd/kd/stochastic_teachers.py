"""Several teachers of overlapping parts of noisy data, mixed at random for every batch (RoS-KD, Jaiswal et al. 2022).

It works on positions and tensors alone: networks and training loops are not its business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policykd.errors import ConfigError, check_range
from policykd.kd.losses.binary_kd import binary_kd
from policykd.kd.losses.multi_teacher_kd import multi_teacher_kd
from policykd.seeding import generator

PUBLISHED_WEIGHTS = (0.7, 0.2, 0.09, 0.01)
"""Weights of four teachers in the authors' code."""


def without_one_fold(samples: int, teachers: int, seed: int) -> list[np.ndarray]:
    """Return one part per teacher: all samples but one fold, so that every sample is in all parts but one.

    Args:
        samples: Number of samples N, at least one per teacher.
        teachers: Number of teachers K, at least 2.
        seed: Seeds the folds.

    Returns:
        Sorted positions of each part; with K that divides N, each has N (K - 1) / K, and two share N (K - 2) / K.
    """
    check_range("teachers", teachers, 2, samples)
    folds = np.array_split(generator(seed, "overlapping parts").permutation(samples), teachers)
    return [np.setdiff1d(np.arange(samples), fold) for fold in folds]


def random_parts(samples: int, teachers: int, share: float, seed: int) -> list[np.ndarray]:
    """Return one part per teacher: a share of the samples, drawn without replacement and independently.

    Args:
        samples: Number of samples.
        teachers: Number of teachers.
        share: Share of every part, above 0 and at most 1; two parts share its square on average.
        seed: Seeds the draws.

    Returns:
        Sorted positions of each part.
    """
    check_range("teachers", teachers, 1, 10_000)
    check_range("share", share, 1.0 / samples, 1.0)
    size = round(share * samples)
    draws = (generator(seed, "random parts", number).permutation(samples)[:size] for number in range(teachers))
    return [np.sort(part) for part in draws]


class PermutedWeights:
    """Weights of teachers in a new random order for every batch; a pure function of seed and step.

    A resumed training therefore sees the orders of the uninterrupted one.

    Args:
        weights: One per teacher, at least 0, with the sum one.
        seed: Seeds the orders.

    Raises:
        ConfigError: The weights are negative or do not sum to one.
    """

    def __init__(self, weights: Sequence[float] = PUBLISHED_WEIGHTS, *, seed: int) -> None:
        if not weights or min(weights) < 0 or abs(sum(weights) - 1.0) > 1e-9:
            raise ConfigError(f"weights are {tuple(weights)}; they must not be negative and must sum to 1")
        self.weights, self.seed = tuple(weights), seed

    def at(self, step: int) -> Tensor:
        """Return the weights ``(K,)`` of a step."""
        order = generator(self.seed, "permuted weights", step).permutation(len(self.weights))
        return torch.tensor([self.weights[place] for place in order])


def mixed_teachers_kd(
    student: Tensor, teachers: Tensor, weights: Tensor, *, temperature: float = 10.0, multilabel: bool = False
) -> Tensor:
    """Return ``T^2 sum_k w_k KL(teacher k || student)``, averaged over the batch.

    The authors' code averages over classes, too, so that its term is C times weaker.

    Args:
        student: Logits ``(B, C)``.
        teachers: Logits ``(K, B, C)``.
        weights: Weights ``(K,)``.
        temperature: T > 0.
        multilabel: Whether every class is a decision of its own; divergences of Bernoulli distributions are then added
            up over classes.
    """
    if not multilabel:
        return multi_teacher_kd(student, teachers, weights[:, None].expand(teachers.shape[:2]), temperature=temperature)
    options: dict[str, Any] = {"temperature": temperature, "scale_t2": True, "reduction": "none"}
    values = [binary_kd(student, one, **options) - binary_kd(one, one, **options) for one in teachers]
    return student.shape[1] * (weights[:, None] * torch.stack(values)).sum(0).mean()
