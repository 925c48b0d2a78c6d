"""CCKD: correlation congruence for distillation (Peng et al., ICCV 2019, arXiv 1904.01802).

The loss is ``policykd.kd.functional.cc`` with its kernels and variants. The samplers whose batches hold enough pairs of
one class are ``policykd.kd.training.samplers.ClassUniformSampler`` (CUR) and ``SuperclassUniformSampler`` (SUR). Here
is the experiment: few labels, and correlations matched on many unlabeled digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from torch import Tensor
from typing_extensions import override

from policykd.errors import check_range
from policykd.kd import functional as kf
from policykd.kd.experiments.digits import CLASSES
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.feature_metrics import compare_features
from policykd.kd.experiments.few_labels import pool_arm
from policykd.kd.experiments.limits import Weight
from policykd.kd.experiments.system import Arm, Fit, OwnSeedCell, Recipe, System, higher, lower
from policykd.kd.networks import MLP
from policykd.kd.training.samplers import ClassUniformSampler, same_class_share
from policykd.plain import Limits
from policykd.seeding import generator, integer_seed


@dataclass(frozen=True)
class CCKDRecipe(Recipe):
    """Digits with few labels, whose last hidden layers are compared, and samplers on a problem with many classes.

    Attributes:
        per_class: Samples per class whose label the students see.
        labeled_batch: Labeled samples per step.
        cc_weight: Weight of the correlation loss alone.
        joint_cc_weight: Its weight when it is added to plain distillation.
        gamma: Width of the kernel.
        order: Terms of its series.
        sampler_classes: Classes of the sampler comparison, with ten samples each.
        cur_classes: c, classes per class-uniform batch.
        cur_per_class: k, samples of each.
    """

    teacher: Fit = Fit((256, 64), steps=1000, batch_size=32)
    student: Fit = Fit((48, 32), steps=800, batch_size=96)
    per_class: Annotated[int, Limits(1, 40)] = 6
    labeled_batch: int = 24
    cc_weight: Weight = 100.0
    joint_cc_weight: Weight = 10.0
    gamma: float = 0.4
    order: int = 2
    sampler_classes: int = 100
    cur_classes: int = 10
    cur_per_class: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("labeled_batch", self.labeled_batch, 1, CLASSES * self.per_class)


class CCKDCell(OwnSeedCell[CCKDRecipe]):
    """The teacher's batches follow from the cell's own seed."""

    def correlation_gap(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the correlation loss of features of one batch with the recipe's kernel."""
        return kf.cc(student, teacher, gamma=self.recipe.gamma, order=self.recipe.order)


def on_pool(cell: CCKDCell, *, ce_weight: float = 1.0, kd_weight: float = 0.0, cc_weight: float = 0.0) -> Arm:
    """Return the arm with cross-entropy on labeled samples and, on the unlabeled ones, logits and correlations."""

    def weighted(student: Tensor, teacher: Tensor) -> Tensor:
        return cc_weight * cell.correlation_gap(student, teacher)

    return pool_arm(
        cell,
        per_class=cell.recipe.per_class,
        size=cell.recipe.labeled_batch,
        ce_weight=ce_weight,
        kd_weight=kd_weight,
        features=weighted if cc_weight else None,
    )


def sampler_arms(seed: int, recipe: CCKDRecipe) -> dict[str, dict[str, float]]:
    """Return the share of same-class pairs in an epoch of random and of class-uniform batches of one size."""
    labels = np.repeat(np.arange(recipe.sampler_classes), 10)
    sampler = ClassUniformSampler(
        labels, classes=recipe.cur_classes, per_class=recipe.cur_per_class, seed=integer_seed(seed, "cckd", "sampler")
    )
    order = generator(seed, "cckd", "random batches").permutation(len(labels))
    whole = len(labels) // sampler.batch_size * sampler.batch_size
    random = order[:whole].reshape(-1, sampler.batch_size).tolist()
    return {
        arm: {"same-class pairs": float(np.mean([same_class_share(labels[rows]) for rows in batches]))}
        for arm, batches in (("random batches", random), ("cur batches", list(sampler.epoch(0))))
    }


class CCKD(System[CCKDRecipe]):
    """Students with and without correlations of unlabeled digits, and the pairs that two samplers give."""

    name = "cckd"
    title = "Correlation congruence between the samples of a batch"
    paper = (
        "Peng, Jin, Liu, Li, Wu, Liu, Zhou, Zhang, Correlation Congruence for Knowledge Distillation, ICCV 2019, "
        "arXiv 1904.01802"
    )
    claim = (
        "Matching the correlations of unlabeled samples helps a student with few labels and does no harm when added to "
        "plain distillation, and class-uniform batches hold more pairs of one class than random batches."
    )
    claims = (
        higher("accuracy", "cc", "ce").says(
            "Matching correlations of unlabeled samples raises accuracy over cross-entropy."
        ),
        lower("correlation gap", "cc", "ce", by=0.5, statistic="ratio", required=False).says(
            "On test data, matching correlations at least halves the distance from the teacher's correlations, "
            "against cross-entropy."
        ),
        higher("accuracy", "kd + cc", "kd").says(
            "Plain distillation loses at most 0.3 points of test accuracy when correlations are matched too."
        ),
        higher("same-class pairs", "cur batches", "random batches", required=False).says(
            "Class-uniform batches hold a larger share of pairs of one class than random batches."
        ),
    )
    gates = (0.065, -0.003)
    notes = (
        "The gain of correlations comes from unlabeled samples that cross-entropy cannot use; plain distillation gains "
        "even more from them.",
        "Features are compared directly, without the linear embeddings of the published recipe: the correlation "
        "matrices have one size whatever the widths, and a trained embedding of the teacher can collapse.",
        "With ten classes, random batches hold enough pairs of one class, so students are trained on random batches; "
        "the samplers are compared by their pairs on 100 classes.",
    )
    recipe = CCKDRecipe()
    cell = CCKDCell

    @override
    def arms(self, cell: CCKDCell) -> dict[str, Arm]:
        recipe = cell.recipe
        plain = {"ce_weight": recipe.ce_weight, "kd_weight": recipe.kd_weight}
        return {
            "ce": on_pool(cell),
            "cc": on_pool(cell, cc_weight=recipe.cc_weight),
            "kd": on_pool(cell, **plain),
            "kd + cc": on_pool(cell, **plain, cc_weight=recipe.joint_cc_weight),
        }

    @override
    def measure(self, cell: CCKDCell, network: MLP) -> dict[str, float]:
        metrics = {} if network is cell.teacher else {"correlation gap": cell.correlation_gap}
        return compare_features(cell, network, **metrics)

    @override
    def other_arms(self, cell: CCKDCell) -> Metrics:
        return sampler_arms(cell.seed, cell.recipe)


EXPERIMENT = CCKD().experiment()
