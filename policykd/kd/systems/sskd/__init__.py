"""SSKD: distillation meets self-supervision (Xu, Liu, Li, Loy, ECCV 2020, arXiv 2006.07114).

A head on the teacher's features learns to tell which original a rotated image comes from; how alike rotated and
original images look to it is knowledge that the student takes over along with the class scores. Only rows on which the
teacher is right, or not too wrong, are transferred. The method's pieces are in ``self_supervision``; here are networks,
stages and the experiment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from policykd.errors import check_range
from policykd.kd import functional as kf
from policykd.kd.experiments.digits import CLASSES, digits_rows, some_per_class
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.systems.sskd.self_supervision import (
    VIEWS,
    SimilarityHead,
    SskdTerms,
    ViewOutputs,
    error_level,
    head_loss,
    originals,
    rotated_views,
    selected,
    view_similarity,
)
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch, Batches
from policykd.kd.training.budget import step_budget
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.evaluate import accuracy
from policykd.kd.training.loop import distil, minimize, seeded, train_classifier
from policykd.seeding import integer_seed


class HeadedCNN(nn.Module):
    """Two convolutions with batch normalization, a linear classifier, and a similarity head beside it.

    Args:
        widths: Channels of the convolutions; the second is the width of the pooled feature.
    """

    def __init__(self, widths: tuple[int, int]) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for inputs, outputs in ((1, widths[0]), widths):
            blocks += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        blocks.insert(3, nn.MaxPool2d(2))
        self.backbone = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc, self.head = nn.Linear(widths[1], CLASSES), SimilarityHead(widths[1])

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, 1, H, W)`` to logits ``(B, 10)``."""
        return self.fc(self.backbone(images))

    def view_features(self, images: Tensor) -> Tensor:
        """Pooled features ``(4 B, d)`` of the views of images ``(B, 1, H, W)``."""
        return self.backbone(rotated_views(images).flatten(0, 1))

    def outputs(self, images: Tensor) -> ViewOutputs:
        """What classifier and head say about the views of images."""
        features = self.view_features(images)
        return ViewOutputs(self.fc(features), self.head(features))


def train_head(network: HeadedCNN, images: Tensor, config: TrainConfig) -> None:
    """Train the head to find the originals; everything else stays in eval mode and is not changed to the bit.

    Departure: features are computed once, since no view is augmented.

    Args:
        network: Its head is trained in place.
        images: ``(N, 1, H, W)``.
        config: The run; its batch size B is the number of originals to choose from.
    """
    _train_head(network, images, None, config, SskdTerms())


def _train_head(
    network: HeadedCNN, images: Tensor, known: Tensor | None, config: TrainConfig, terms: SskdTerms
) -> None:
    """Train a head on frozen features: to find the originals, or to follow known embeddings ``(N, 4, d)``."""
    network.eval()
    with torch.no_grad():
        features = network.view_features(images).unflatten(0, (-1, VIEWS))

    def loss(batch: Batch, epoch: int) -> Tensor:
        similarity = view_similarity(network.head(batch.x.flatten(0, 1)))
        if known is None:
            return head_loss(similarity)
        return terms.similarity(similarity, view_similarity(known[batch.index].flatten(0, 1)))

    minimize(loss, network.head, (features, torch.arange(len(images))), config)


@dataclass(frozen=True)
class SskdConfig:
    """Digits as images: a teacher that saw many, a student that sees few.

    Attributes:
        share: Share of the digits that teacher and head are trained on and the student's images come from; tested on
            the rest.
        per_class: Images of every class that the student sees, all labeled.
        teacher_widths: Channels of the teacher.
        student_widths: Channels of the student.
        teacher_steps: Optimizer steps of the teacher.
        head_steps: Optimizer steps of the teacher's head; 930 are 30 epochs.
        steps: Optimizer steps of every student; 720 are the published 240 epochs.
        batch_size: B, images per step; four times as many views.
        learning_rate: Of Adam.
        terms: The objective.
    """

    share: float = 0.56
    per_class: int = 10
    teacher_widths: tuple[int, int] = (16, 32)
    student_widths: tuple[int, int] = (8, 16)
    teacher_steps: int = 600
    head_steps: int = 930
    steps: int = 720
    batch_size: int = 32
    learning_rate: float = 2e-3
    terms: SskdTerms = field(default_factory=SskdTerms)

    def __post_init__(self) -> None:
        check_range("share", self.share, 0.1, 0.9)
        check_range("per_class", self.per_class, 2, 40)
        check_range("batch_size", self.batch_size, 2, CLASSES * self.per_class)


def run(seed: int, config: SskdConfig) -> Cell:
    """Train a teacher with its head and three students, which start alike and see the same images."""
    pool, test = (Split(s.x.reshape(-1, 1, 8, 8), s.y) for s in digits_rows(seed, (config.share, 1 - config.share)))
    rows = some_per_class(pool, config.per_class, seed)
    teacher = seeded(lambda: HeadedCNN(config.teacher_widths), seed, "teacher")
    train_classifier(teacher, pool, _budget(config, len(pool), config.teacher_steps, seed))
    train_head(teacher, pool.x, _budget(config, len(pool), config.head_steps, seed))
    with torch.no_grad():
        known = teacher.outputs(rows.x)
    students = _students(seed, known, rows, config)
    cell = {"teacher": {"accuracy": accuracy(teacher, test), "retrieval": _retrieval(teacher, test, config)}}
    for arm, student in students.items():
        cell[arm] = {"accuracy": accuracy(student, test)}
        if arm != "ce":
            cell[arm]["similarity kl"] = _similarity_kl(student, teacher, test, config)
    return cell | _transferred(teacher, rows, config)


def _students(seed: int, known: ViewOutputs, rows: Split, config: SskdConfig) -> dict[str, HeadedCNN]:
    terms = config.terms
    students = {arm: seeded(lambda: HeadedCNN(config.student_widths), seed, "student") for arm in ("ce", "kd", "sskd")}
    budget = _budget(config, len(rows), config.steps, integer_seed(seed, "student order"))
    train_classifier(students["ce"], rows, budget)
    logits, embeddings = (values.unflatten(0, (-1, VIEWS)) for values in (known.logits, known.embeddings))
    distil(
        students["kd"],
        logits[:, 0],
        rows,
        budget,
        temperature=terms.kd_temperature,
        kd_weight=terms.kd_weight,
        ce_weight=terms.ce_weight,
    )
    # plain distillation has no head: one is fitted to its finished features, or there would be nothing to compare
    _train_head(students["kd"], rows.x, embeddings, budget, terms)

    def loss(batch: Batch, epoch: int) -> Tensor:
        taught = ViewOutputs(logits[batch.index].flatten(0, 1), embeddings[batch.index].flatten(0, 1))
        return terms(students["sskd"].outputs(batch.x), taught, batch.targets)

    minimize(loss, students["sskd"], rows, budget)
    return students


def _budget(config: SskdConfig, samples: int, steps: int, seed: int) -> TrainConfig:
    return step_budget(
        samples, steps=steps, batch_size=config.batch_size, learning_rate=config.learning_rate, seed=seed
    )


def _similarities(network: HeadedCNN, data: Split, config: SskdConfig) -> Iterator[Tensor]:
    """Similarities ``(3 B, B)`` of full batches in the data's order."""
    for batch in Batches(data, config.batch_size, shuffle=False, drop_last=True).epoch(0):
        with torch.no_grad():  # not around the yield: generators that take turns would leave it switched off
            similarity = view_similarity(network.outputs(batch.x).embeddings)
        yield similarity


def _retrieval(teacher: HeadedCNN, test: Split, config: SskdConfig) -> float:
    """How often the true original looks most alike, in multiples of chance."""
    levels = torch.cat([error_level(a, originals(a)) for a in _similarities(teacher, test, config)])
    return float((levels == 0).double().mean()) * config.batch_size


def _similarity_kl(student: HeadedCNN, teacher: HeadedCNN, test: Split, config: SskdConfig) -> float:
    """Mean divergence of the rows of the student's similarity from the teacher's, in nats."""
    pairs = zip(_similarities(student, test, config), _similarities(teacher, test, config), strict=True)
    temperature = config.terms.similarity_temperature
    return float(torch.stack([kf.kd(s, t, temperature=temperature, scale_t2=False) for s, t in pairs]).mean())


def _transferred(teacher: HeadedCNN, rows: Split, config: SskdConfig) -> dict[str, dict[str, float]]:
    """Share of rows of the similarity on which the teacher is wrong, before and after the selection."""
    levels = [error_level(a, originals(a)) for a in _similarities(teacher, rows, config)]
    kept = [own[selected(own, config.terms.similarity_share)] for own in levels]
    return {
        arm: {"wrong rows": float((torch.cat(parts) > 0).double().mean())}
        for arm, parts in (("all rows", levels), ("transferred rows", kept))
    }


EXPERIMENT = Experiment(
    name="sskd",
    title="Distillation with self-supervised similarity between rotated views",
    paper="Xu, Liu, Li, Loy, Knowledge Distillation Meets Self-Supervision, ECCV 2020, arXiv 2006.07114",
    claim="with few images, taking over the teacher's similarity between rotated views makes a student more accurate "
    "than plain distillation does; it is knowledge that plain distillation does not pass on",
    config=SskdConfig(),
    run=run,
    comparisons=(
        Comparison(
            "retrieval",
            student="teacher",
            better="higher",
            gate=3.0,
            text="the teacher's head finds the original more than three times as often as chance",
        ),
        Comparison(
            "similarity kl",
            student="sskd",
            baseline="kd",
            better="lower",
            text="similarity of test views closer to the teacher's than after plain distillation",
        ),
        Comparison(
            "wrong rows",
            student="transferred rows",
            baseline="all rows",
            better="lower",
            text="selective transfer lowers the share of rows on which the teacher is wrong",
        ),
        Comparison("accuracy", student="sskd", baseline="ce", better="higher", text="above cross-entropy"),
        Comparison("accuracy", student="sskd", baseline="kd", better="higher", text="above plain distillation"),
    ),
    notes=(
        "A rotated digit can be another digit (6 and 9), unlike the objects of the paper's images; only the teacher's "
        "soft answers are transferred on rotated views.",
        "Plain distillation has no head; for the comparison one is fitted to the finished student's features with the "
        "same similarity term and budget.",
        "Views are rotations without crops and flips, as a flip changes a digit; everything is trained by Adam.",
    ),
)
