"""Similarity-preserving distillation: pairs of samples should look as similar to the student as to the teacher.

Tung and Mori, Similarity-Preserving Knowledge Distillation (ICCV 2019, arXiv 1907.09682). The loss is
``policykd.kd.functional.sp``. It needs neither labels nor equal widths, so a teacher can pass on its knowledge of
unlabeled inputs. Every step sees a few labeled samples and a large unlabeled pool,
``L = ce_weight CE(labeled) + sp_weight L_SP(pool)``.

Departures: the paper trains with labels on everything; here most inputs have none. Features are the last hidden layer
instead of the last convolutional map.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from typing_extensions import override

from policykd.errors import ConfigError, check_range
from policykd.kd import functional as kf
from policykd.kd.experiments.digits import CLASSES
from policykd.kd.experiments.feature_metrics import compare_features
from policykd.kd.experiments.few_labels import pool_arm
from policykd.kd.experiments.system import Arm, Cell, Fit, Recipe, System, higher, lower
from policykd.kd.networks import MLP


@dataclass(frozen=True)
class SPRecipe(Recipe):
    """A teacher with 1000 labels, a student with 60 labels and the teacher's inputs as a pool.

    Attributes:
        labeled_per_class: Samples per class whose labels the student has.
        labeled_batch: Labeled samples per step.
        sp_weights: Weights of the similarity loss, gamma in the paper; the claim is about the last one. They are in the
            thousands because the loss is divided by the square of the batch size.
    """

    teacher: Fit = Fit((256, 64), epochs=40, drop_last=True)
    student: Fit = Fit((48, 32), epochs=80, batch_size=96, drop_last=True)
    shares: tuple[float, ...] = (0.557, 1 - 0.557)
    ce_weight: float = 1.0
    kd_weight: float = 1.0
    labeled_per_class: int = 6
    labeled_batch: int = 24
    sp_weights: tuple[float, ...] = (100.0, 1000.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("labeled_batch", self.labeled_batch, 1, CLASSES * self.labeled_per_class)
        if not self.sp_weights or min(self.sp_weights) <= 0:
            raise ConfigError(f"sp_weights must be at least one number above 0, got {self.sp_weights}")


def on_pool(cell: Cell[SPRecipe], *, sp_weight: float = 0.0, kd_weight: float = 0.0) -> Arm:
    """Return the arm with cross-entropy on labeled samples and, on the pool, similarities or logits."""
    recipe = cell.recipe

    def weighted(student: Tensor, teacher: Tensor) -> Tensor:
        return sp_weight * kf.sp(student, teacher)

    return pool_arm(
        cell,
        per_class=recipe.labeled_per_class,
        size=recipe.labeled_batch,
        ce_weight=recipe.ce_weight,
        kd_weight=kd_weight,
        features=weighted if sp_weight else None,
    )


class SP(System[SPRecipe]):
    """Students with labels alone, with the teacher's similarities of the pool, and with its logits."""

    name = "sp"
    title = "Similarity-preserving distillation"
    paper = "Tung, Mori, ICCV 2019, arXiv 1907.09682"
    claim = "A teacher's similarities of unlabeled inputs help a student that has few labels."
    claims = (
        higher("accuracy", "SP", "CE").says(
            "Matching the teacher's similarities of unlabeled digits raises test accuracy over cross-entropy on the "
            "same labels."
        ),
        lower("sp", "SP", "CE", required=False).says(
            "On test data, the student that matches similarities is closer to the teacher's similarities than the "
            "student of cross-entropy."
        ),
        higher("accuracy", "SP", "KD", required=False).says(
            "Matching similarities of unlabeled digits gives a higher test accuracy than matching their logits."
        ),
    )
    gates = (0.052,)
    notes = (
        "Matching logits on the unlabeled digits passes on the classes themselves and is expected to be far better "
        "than matching similarities.",
    )
    recipe = SPRecipe()

    @override
    def arms(self, cell: Cell[SPRecipe]) -> dict[str, Arm]:
        *weak, strong = cell.recipe.sp_weights
        return {
            "CE": on_pool(cell),
            **{f"SP {weight:g}": on_pool(cell, sp_weight=weight) for weight in weak},
            "SP": on_pool(cell, sp_weight=strong),
            "KD": on_pool(cell, kd_weight=cell.recipe.kd_weight),
        }

    @override
    def measure(self, cell: Cell[SPRecipe], network: MLP) -> dict[str, float]:
        return compare_features(cell, network, sp=kf.sp)


EXPERIMENT = SP().experiment()
