"""CRD: contrastive representation distillation (Tian, Krishnan, Isola, ICLR 2020, arXiv 1910.10699).

The loss, its memory banks, negatives and constants are ``policykd.kd.losses.CRD``. Here are two measures of what it
claims, that the student's representation holds more of the teacher's, and the experiment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import check_temperature, prepare_pair
from policykd.errors import check_range
from policykd.kd import functional as kf
from policykd.kd.experiments.digits import CLASSES, PIXELS, digits_rows, some_per_class
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.losses import CRD
from policykd.kd.networks import MLP
from policykd.kd.networks.penultimate import penultimate
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.budget import step_budget
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.evaluate import accuracy
from policykd.kd.training.loop import Loss, minimize, seeded, train_classifier
from policykd.seeding import integer_seed


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Linear centered kernel alignment of two features of the same samples, in [0, 1].

    ``||Y' X||_F**2 / (||X' X||_F ||Y' Y||_F)`` on centered columns (Kornblith et al. 2019, equation numbers not
    checked). It does not change under rotation, shift and scale of either feature.

    Args:
        first: ``(N, D)``.
        second: ``(N, E)``.

    Raises:
        ValueError: Shapes do not fit, or a feature is constant.
    """
    x, y = prepare_pair(first.detach(), second, what="features", min_dim=2, same_shape=False)
    x, y = (v.double() - v.double().mean(0) for v in (x.flatten(1), y.flatten(1)))
    scale = (x.T @ x).norm() * (y.T @ y).norm()
    if not scale > 0:
        raise ValueError("a feature is the same for all samples: its alignment is not defined")
    return float((y.T @ x).square().sum() / scale)


def info_nce_bound(student: Tensor, teacher: Tensor, *, temperature: float) -> float:
    """Lower bound on the mutual information of two embeddings, in nats: ``log N`` less the cross-entropy of the pairs.

    Each student embedding has to find its own teacher embedding among all N (van den Oord et al. 2018); the bound
    cannot exceed ``log N``.

    Args:
        student: ``(N, E)``, normalized here.
        teacher: ``(N, E)``, row i of the same sample.
        temperature: T > 0.

    Raises:
        ValueError: Shapes differ or an option is out of range.
    """
    check_temperature(temperature)
    student, teacher = prepare_pair(student.detach(), teacher, what="embeddings", min_dim=2)
    scores = F.normalize(student.double(), dim=1) @ F.normalize(teacher.double(), dim=1).T / temperature
    return math.log(len(scores)) - float(F.cross_entropy(scores, torch.arange(len(scores))))


@dataclass(frozen=True)
class CrdConfig:
    """Digits: a teacher that saw many rows, a student that sees few.

    Attributes:
        share: Share of the digits that the teacher is trained on and the student's rows come from; tested on the rest.
        per_class: Rows of every class that the student sees, all labeled.
        teacher_hidden: Widths of the teacher's hidden layers; the last one is contrasted.
        student_hidden: Widths of the student's.
        teacher_steps: Optimizer steps of the teacher.
        steps: Optimizer steps of every student.
        batch_size: Samples per step.
        learning_rate: Of Adam.
        temperature: T of plain distillation.
        ce_weight: Weight of the cross-entropy beside plain distillation alone.
        kd_weight: Weight of plain distillation alone.
        joint_ce_weight: Weight of the cross-entropy where the contrastive term joins plain distillation.
        joint_kd_weight: Weight of plain distillation there.
        crd_weight: Weight of the contrastive term.
        width: E, width of the embeddings.
        negatives: K per sample.
        contrast_temperature: T of the contrastive scores.
        momentum: Share of the old entry when a bank is updated.
    """

    share: float = 0.56
    per_class: int = 10
    teacher_hidden: tuple[int, ...] = (256, 64)
    student_hidden: tuple[int, ...] = (48, 32)
    teacher_steps: int = 1000
    steps: int = 800
    batch_size: int = 32
    learning_rate: float = 2e-3
    temperature: float = 4.0
    ce_weight: float = 0.1
    kd_weight: float = 0.9
    joint_ce_weight: float = 1.0
    joint_kd_weight: float = 1.0
    crd_weight: float = 0.8
    width: int = 16
    negatives: int = 64
    contrast_temperature: float = 0.1
    momentum: float = 0.5

    def __post_init__(self) -> None:
        check_range("share", self.share, 0.1, 0.9)
        check_range("per_class", self.per_class, 2, 40)


def run(seed: int, config: CrdConfig) -> Cell:
    """Train a teacher and four students, which start alike and see the same batches."""
    pool, test = digits_rows(seed, (config.share, 1 - config.share))
    teacher = seeded(lambda: MLP((PIXELS,), config.teacher_hidden, classes=CLASSES), seed, "teacher")
    train_classifier(teacher, pool, _budget(config, len(pool), config.teacher_steps, seed))
    rows = some_per_class(pool, config.per_class, seed)
    budget = _budget(config, len(rows), config.steps, integer_seed(seed, "student order"))
    with torch.no_grad():
        taught = penultimate(teacher, rows.x)
    cell = {"teacher": {"accuracy": accuracy(teacher, test)}}
    for arm in ("ce", "crd", "kd", "kd + crd"):
        student = seeded(lambda: MLP((PIXELS,), config.student_hidden, classes=CLASSES), seed, "student")
        contrast = seeded(lambda: _contrast(rows, config, seed), seed, "crd embeddings")
        loss = _loss(student, contrast if "crd" in arm else None, taught, "kd" in arm, config)
        minimize(loss, [student, contrast] if "crd" in arm else student, rows, budget)
        if arm == "ce":
            _fit_embeddings(student, contrast, taught[0], rows, budget)
        embedded = None if arm == "kd" else contrast
        cell[arm] = {"accuracy": accuracy(student, test), **_likeness(student, teacher, embedded, test, config)}
    return cell


def _budget(config: CrdConfig, samples: int, steps: int, seed: int) -> TrainConfig:
    return step_budget(
        samples, steps=steps, batch_size=config.batch_size, learning_rate=config.learning_rate, seed=seed
    )


def _contrast(rows: Split, config: CrdConfig, seed: int) -> CRD:
    return CRD(
        len(rows),
        config.student_hidden[-1],
        config.teacher_hidden[-1],
        dim=config.width,
        negatives=config.negatives,
        temperature=config.contrast_temperature,
        momentum=config.momentum,
        labels=rows.y,
        seed=integer_seed(seed, "crd"),
    )


def _loss(
    student: MLP, contrast: CRD | None, taught: tuple[Tensor, Tensor], distilled: bool, config: CrdConfig
) -> Loss:
    """The weighted terms; ``taught`` are the teacher's features and logits of all rows."""
    ce_weight, kd_weight = (
        (config.ce_weight, config.kd_weight) if contrast is None else (config.joint_ce_weight, config.joint_kd_weight)
    )

    def loss(batch: Batch, epoch: int) -> Tensor:
        features, logits = penultimate(student, batch.x)
        known, target = (values[batch.index] for values in taught)
        total = F.cross_entropy(logits, batch.targets)
        if distilled:
            total = ce_weight * total + kd_weight * kf.kd(logits, target, temperature=config.temperature)
        return total if contrast is None else total + config.crd_weight * contrast(features, known, batch.index)

    return loss


def _fit_embeddings(student: MLP, contrast: CRD, known: Tensor, rows: Split, budget: TrainConfig) -> None:
    """Give a student that was trained without the term its embeddings, by the term alone, on finished features."""
    with torch.no_grad():
        features = penultimate(student, rows.x)[0]
    minimize(
        lambda batch, epoch: contrast(batch.x, known[batch.index], batch.index), contrast, (features, rows.y), budget
    )


@torch.no_grad()
def _likeness(student: MLP, teacher: MLP, contrast: CRD | None, test: Split, config: CrdConfig) -> dict[str, float]:
    """How much the representations of test samples have in common: feature by feature, and by embeddings."""
    features, known = penultimate(student, test.x)[0], penultimate(teacher, test.x)[0]
    figures = {"cka": linear_cka(features, known)}
    if contrast is None:
        return figures
    bound = info_nce_bound(*contrast.embed(features, known), temperature=config.contrast_temperature)
    return figures | {"information": bound}


EXPERIMENT = Experiment(
    name="crd",
    title="Contrastive representation distillation",
    paper="Tian, Krishnan, Isola, Contrastive Representation Distillation, ICLR 2020, arXiv 1910.10699",
    claim="the contrastive term helps a student with few rows, does not hurt beside plain distillation, and its "
    "representation shares more information with the teacher's",
    config=CrdConfig(),
    run=run,
    comparisons=(
        Comparison(
            "accuracy",
            student="crd",
            baseline="ce",
            better="higher",
            gate=0.005,
            text="more than half a point above cross-entropy",
        ),
        Comparison(
            "accuracy",
            student="kd + crd",
            baseline="kd",
            better="higher",
            gate=-0.003,
            text="at most 0.3 points below plain distillation when added to it",
        ),
        Comparison(
            "information",
            student="crd",
            baseline="ce",
            better="higher",
            text="a larger bound on the information shared with the teacher, on test data",
        ),
    ),
    notes=(
        "The bound is that of InfoNCE between the embeddings. The student of cross-entropy gets its embeddings "
        "afterward, by the same term and budget on its finished features.",
        "Weights are the published ones: cross-entropy and divergence with 0.1 and 0.9 for plain distillation, with 1 "
        "and 1 where the contrastive term joins it; so the two students differ in more than that term.",
        "K of the paper is 16384 for 50000 samples; K over the number of samples enters the loss.",
    ),
)
