"""CCKD: correlation congruence for distillation (Peng et al., ICCV 2019, arXiv 1904.01802).

The loss is ``policykd.kd.functional.cc`` with its kernels and variants; the samplers that give it pairs worth comparing
are ``policykd.kd.training.samplers.ClassUniformSampler`` (CUR) and ``SuperclassUniformSampler`` (SUR). Here is the
experiment: few labels, and correlations matched on many unlabeled rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.errors import check_range
from policykd.kd import functional as kf
from policykd.kd.experiments.digits import CLASSES, PIXELS, LabeledDraws, digits_rows, some_per_class
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.networks import MLP
from policykd.kd.networks.penultimate import penultimate
from policykd.kd.training.batches import Batch
from policykd.kd.training.budget import step_budget
from policykd.kd.training.evaluate import accuracy
from policykd.kd.training.loop import Loss, minimize, seeded, train_classifier
from policykd.kd.training.samplers import ClassUniformSampler, same_class_share
from policykd.seeding import generator, integer_seed


@dataclass(frozen=True)
class CckdConfig:
    """Digits with few labels, and a comparison of samplers on a problem with many classes.

    Attributes:
        share: Share of the digits that the teacher is trained on and all students may see without labels; tested on
            the rest.
        per_class: Rows of every class whose label the students see.
        labeled_batch: Labeled rows per step.
        batch_size: Unlabeled rows per step, on which teacher and student are compared; n of the correlation loss.
        teacher_hidden: Widths of the teacher's hidden layers; the last one is compared.
        student_hidden: Widths of the student's.
        teacher_batch: Samples per step of the teacher.
        teacher_steps: Optimizer steps of the teacher.
        steps: Optimizer steps of every student.
        learning_rate: Of Adam.
        temperature: T of plain distillation.
        ce_weight: Weight of the cross-entropy where there is plain distillation.
        kd_weight: Weight of plain distillation.
        cc_weight: Weight of the correlation loss alone.
        joint_cc_weight: Its weight beside plain distillation.
        gamma: Width of the kernel.
        order: Terms of its series.
        sampler_classes: Classes of the sampler comparison, with ten samples each.
        cur_classes: c, classes per class-uniform batch.
        cur_per_class: k, samples of each.
    """

    share: float = 0.56
    per_class: int = 6
    labeled_batch: int = 24
    batch_size: int = 96
    teacher_hidden: tuple[int, ...] = (256, 64)
    student_hidden: tuple[int, ...] = (48, 32)
    teacher_batch: int = 32
    teacher_steps: int = 1000
    steps: int = 800
    learning_rate: float = 2e-3
    temperature: float = 4.0
    ce_weight: float = 0.1
    kd_weight: float = 0.9
    cc_weight: float = 100.0
    joint_cc_weight: float = 10.0
    gamma: float = 0.4
    order: int = 2
    sampler_classes: int = 100
    cur_classes: int = 10
    cur_per_class: int = 4

    def __post_init__(self) -> None:
        check_range("share", self.share, 0.1, 0.9)
        check_range("per_class", self.per_class, 1, 40)
        check_range("labeled_batch", self.labeled_batch, 1, CLASSES * self.per_class)


@dataclass(frozen=True)
class _Weights:
    """What an arm adds up."""

    ce: float = 1.0
    kd: float = 0.0
    cc: float = 0.0


def run(seed: int, config: CckdConfig) -> Cell:
    """Train a teacher and four students, which start alike and see the same batches; compare the samplers."""
    pool, test = digits_rows(seed, (config.share, 1 - config.share))
    teacher = seeded(lambda: MLP((PIXELS,), config.teacher_hidden, classes=CLASSES), seed, "teacher")
    rate = config.learning_rate
    budget = step_budget(
        len(pool), steps=config.teacher_steps, batch_size=config.teacher_batch, learning_rate=rate, seed=seed
    )
    train_classifier(teacher, pool, budget)
    with torch.no_grad():
        taught, expected = penultimate(teacher, pool.x), penultimate(teacher, test.x)[0]
    budget = step_budget(
        len(pool),
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=rate,
        seed=integer_seed(seed, "student order"),
    )
    cell = {"teacher": {"accuracy": accuracy(teacher, test)}}
    for arm, weights in _arms(config).items():
        student = seeded(lambda: MLP((PIXELS,), config.student_hidden, classes=CLASSES), seed, "student")
        draws = LabeledDraws(some_per_class(pool, config.per_class, seed), config.labeled_batch, seed)
        minimize(_loss(student, draws, taught, weights, config), student, pool, budget)
        with torch.no_grad():
            gap = kf.cc(penultimate(student, test.x)[0], expected, gamma=config.gamma, order=config.order)
        cell[arm] = {"accuracy": accuracy(student, test), "correlation gap": float(gap)}
    return cell | _sampler_arms(seed, config)


def _arms(config: CckdConfig) -> dict[str, _Weights]:
    return {
        "ce": _Weights(),
        "cc": _Weights(cc=config.cc_weight),
        "kd": _Weights(config.ce_weight, config.kd_weight),
        "kd + cc": _Weights(config.ce_weight, config.kd_weight, config.joint_cc_weight),
    }


def _loss(
    student: MLP, labeled: LabeledDraws, taught: tuple[Tensor, Tensor], weights: _Weights, config: CckdConfig
) -> Loss:
    """Cross-entropy on labeled rows, the other terms on the unlabeled batch; one pass over both."""

    def loss(batch: Batch, epoch: int) -> Tensor:
        rows = labeled.draw()
        compared = bool(weights.kd or weights.cc)
        features, logits = penultimate(student, torch.cat([rows.x, batch.x]) if compared else rows.x)
        total = weights.ce * F.cross_entropy(logits[: len(rows)], rows.y)
        known, target = (values[batch.index] for values in taught)
        if weights.kd:
            total = total + weights.kd * kf.kd(logits[len(rows) :], target, temperature=config.temperature)
        if weights.cc:
            gap = kf.cc(features[len(rows) :], known, gamma=config.gamma, order=config.order)
            total = total + weights.cc * gap
        return total

    return loss


def _sampler_arms(seed: int, config: CckdConfig) -> dict[str, dict[str, float]]:
    """Share of same-class pairs in an epoch of random and of class-uniform batches of one size."""
    labels = np.repeat(np.arange(config.sampler_classes), 10)
    sampler = ClassUniformSampler(
        labels, classes=config.cur_classes, per_class=config.cur_per_class, seed=integer_seed(seed, "cckd", "sampler")
    )
    order = generator(seed, "cckd", "random batches").permutation(len(labels))
    whole = len(labels) // sampler.batch_size * sampler.batch_size
    random = order[:whole].reshape(-1, sampler.batch_size).tolist()
    return {
        arm: {"same-class pairs": float(np.mean([same_class_share(labels[rows]) for rows in batches]))}
        for arm, batches in (("random batches", random), ("cur batches", list(sampler.epoch(0))))
    }


EXPERIMENT = Experiment(
    name="cckd",
    title="Correlation congruence between the samples of a batch",
    paper="Peng, Jin, Liu, Li, Wu, Liu, Zhou, Zhang, Correlation Congruence for Knowledge Distillation, ICCV 2019, "
    "arXiv 1904.01802",
    claim="matching the correlations of unlabeled rows helps a student with few labels and does not hurt beside plain "
    "distillation; class-uniform batches hold more pairs of one class than random ones",
    config=CckdConfig(),
    run=run,
    comparisons=(
        Comparison(
            "accuracy",
            student="cc",
            baseline="ce",
            better="higher",
            gate=0.04,
            text="more than 4 points above cross-entropy",
        ),
        Comparison(
            "correlation gap",
            student="cc",
            baseline="ce",
            better="lower",
            gate=0.5,
            statistic="ratio",
            text="at most half the distance of correlations on test data",
        ),
        Comparison(
            "accuracy",
            student="kd + cc",
            baseline="kd",
            better="higher",
            gate=-0.003,
            text="at most 0.3 points below plain distillation when added to it",
        ),
        Comparison(
            "same-class pairs",
            student="cur batches",
            baseline="random batches",
            better="higher",
            text="class-uniform batches hold a larger share of same-class pairs",
        ),
    ),
    notes=(
        "The gain of correlations comes from unlabeled rows that cross-entropy cannot use; plain distillation uses "
        "them better still.",
        "Features are compared directly, without the linear embeddings of the published recipe: the correlation "
        "matrices have one size whatever the widths, and a trained embedding of the teacher can collapse.",
        "On ten classes random batches hold same-class pairs enough, so students are trained on random batches; the "
        "samplers are compared by the pairs that they give on 100 classes.",
    ),
)
