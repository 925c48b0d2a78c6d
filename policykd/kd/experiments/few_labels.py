"""Students that see few labeled digits: the recipe and the cell of such systems, and learning from an unlabeled pool.

It may use ``system`` and ``digits``; systems add the terms of their method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.kd import functional as kf
from policykd.kd.experiments.digits import LabeledDraws, some_per_class
from policykd.kd.experiments.limits import PerClass
from policykd.kd.experiments.system import Arm, Cell, OwnSeedCell, Recipe
from policykd.kd.networks import MLP
from policykd.kd.training.batches import Batch


@dataclass(frozen=True)
class FewSamplesRecipe(Recipe):
    """A teacher that saw many digits, a student that sees few of them.

    Attributes:
        per_class: Samples per class that the student sees, all labeled.
    """

    per_class: PerClass = 10


F_ = TypeVar("F_", bound=FewSamplesRecipe)


class FewSamplesCell(OwnSeedCell[F_]):
    """A cell whose ``transfer`` has ``per_class`` samples of every class."""

    def __init__(self, seed: int, recipe: F_) -> None:
        super().__init__(seed, recipe)
        self.transfer = some_per_class(self.train, recipe.per_class, seed)


def pool_arm(
    cell: Cell[Any],
    *,
    per_class: int,
    size: int,
    ce_weight: float,
    kd_weight: float = 0.0,
    features: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Arm:
    """Return the arm with cross-entropy on a labeled batch and other terms on the batch of the pool, in one pass.

    The pool is ``cell.transfer``; its labels are not read, except those of the labeled samples.

    Args:
        cell: The cell.
        per_class: Labeled samples per class.
        size: Labeled samples per step.
        ce_weight: Weight of the cross-entropy.
        kd_weight: Weight of the divergence of logits on the pool; 0 leaves it out.
        features: ``(student's, teacher's last hidden layer on the pool's batch) -> weighted term``; None for no term.
    """
    draws = LabeledDraws(some_per_class(cell.transfer, per_class, cell.seed), size, cell.seed)
    compared = bool(kd_weight) or features is not None

    def loss(student: MLP, batch: Batch, epoch: int) -> Tensor:
        rows = draws.draw()
        own, logits = student.features_and_logits(torch.cat([rows.x, batch.x]) if compared else rows.x)
        total = ce_weight * F.cross_entropy(logits[: len(rows)], rows.y)
        known, target = (values[batch.index] for values in cell.taught)
        if kd_weight:
            total = total + kd_weight * kf.kd(logits[len(rows) :], target, temperature=cell.recipe.temperature)
        return total if features is None else total + features(own[len(rows) :], known)

    return Arm(loss)
