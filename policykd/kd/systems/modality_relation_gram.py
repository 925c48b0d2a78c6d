"""Distillation of how a teacher's modalities relate: the Gram matrix across modalities, per sample.

Liu, Multi-Modality Distillation via Learning the teacher's modality-level Gram Matrix (arXiv 2112.11447). The matrix
runs over modalities: it is neither the Gram matrix over channels (ICKD) nor the one over samples (SP). Its size
does not depend on the networks' widths.

Departures: only the abstract was readable. The formula, its normalization and its variants are our construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction, categorical_kl, full_precision, prepare_pair, reduce_loss
from policykd.errors import ConfigError, check_range
from policykd.kd import functional as kf
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.metrics import accuracy, agreement
from policykd.kd.options import check_choice
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.loop import minimize, seeded, train_classifier
from policykd.seeding import generator

Variant = Literal["per_sample", "off_diagonal", "batch", "raw", "probability"]


def modality_gram(features: Tensor, *, normalize: bool = True) -> Tensor:
    """Gram matrix across the modalities of each sample: ``G = F F'``.

    Args:
        features: Embeddings ``(B, M, d)``.
        normalize: Scale every embedding to length one (zero stays zero), so that G holds cosines; else divide G by d.

    Returns:
        ``(B, M, M)``.
    """
    rows = F.normalize(features, dim=-1) if normalize else features / features.shape[-1] ** 0.5
    return rows @ rows.transpose(1, 2)


@full_precision
def gram_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    variant: Variant = "per_sample",
    present: Sequence[int] | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Squared difference of the modality-level Gram matrices: ``1 / M**2 || G_t - G_s ||_F**2`` per sample.

    Variants: ``per_sample`` (cosines); ``off_diagonal`` divides by ``M (M - 1)``, since the diagonal never differs;
    ``batch`` concatenates a modality's embeddings over the batch before the cosine, which gives one value in all;
    ``raw`` leaves lengths in and divides G by the width; ``probability`` is the KL of row softmaxes of G, teacher
    first, averaged over rows.

    Args:
        student: Embeddings ``(B, M, d)``.
        teacher: Embeddings ``(B, M', d')``, detached here; the widths may differ.
        variant: See above.
        present: Positions among the teacher's modalities of those that the student has, where it lacks some.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: An input is no floating-point tensor.
        ValueError: Shapes do not fit, a value is not finite, or an option is unknown.
    """
    check_choice("variant", variant, ("per_sample", "off_diagonal", "batch", "raw", "probability"))
    student, teacher = _checked_embeddings(student, teacher, present)
    if variant == "batch":
        student, teacher = (f.transpose(0, 1).flatten(1)[None] for f in (student, teacher))
    own, taught = (modality_gram(f, normalize=variant != "raw") for f in (student, teacher))
    if variant == "probability":
        return reduce_loss(categorical_kl(own, taught, reduction="none").mean(1), reduction)
    count = own.shape[1]
    entries = max(count * (count - 1), 1) if variant == "off_diagonal" else count**2
    return reduce_loss((own - taught).square().sum((1, 2)) / entries, reduction)


def pairwise_cosines(features: Tensor) -> Tensor:
    """Cosines of all pairs of modalities: ``(B, M, d)`` to ``(B, M (M - 1) / 2)``."""
    rows, columns = torch.triu_indices(features.shape[1], features.shape[1], 1)
    return modality_gram(features)[:, rows, columns]


class CosineFusion(nn.Module):
    """A classifier of several modalities that trusts those which agree with the others.

    Every modality has its own encoder into one space. A modality's share in the sum is the softmax of its mean cosine
    with the others, times a learned sharpness, so that the cosines carry meaning.

    Args:
        inputs: Width of every modality in the input, which holds them side by side.
        hidden: Width of the encoders' hidden layer.
        width: Width of the common space.
        classes: Number of classes.
    """

    def __init__(self, inputs: Sequence[int], *, hidden: int, width: int, classes: int) -> None:
        super().__init__()
        if len(inputs) < 2:
            raise ConfigError(f"fusion needs at least two modalities, got {len(inputs)}")
        self.inputs = list(inputs)
        self.encoders = nn.ModuleList(
            nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, width)) for size in inputs
        )
        self.sharpness = nn.Parameter(torch.tensor(5.0))
        self.fc = nn.Linear(width, classes)

    def embeddings(self, x: Tensor) -> Tensor:
        """Embeddings ``(B, M, width)`` of inputs ``(B, sum of inputs)``."""
        parts = x.split(self.inputs, dim=1)
        return torch.stack([encoder(part) for encoder, part in zip(self.encoders, parts, strict=True)], dim=1)

    def trust(self, embeddings: Tensor) -> Tensor:
        """Share of every modality in the fusion ``(B, M)``."""
        others = modality_gram(embeddings) * (1 - torch.eye(len(self.inputs), device=embeddings.device))
        return (self.sharpness * others.sum(2) / (len(self.inputs) - 1)).softmax(1)

    def classify(self, embeddings: Tensor) -> Tensor:
        """Logits ``(B, classes)`` from embeddings."""
        return self.fc((self.trust(embeddings)[:, :, None] * embeddings).sum(1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, sum of inputs)`` to logits ``(B, classes)``."""
        return self.classify(self.embeddings(x))


@dataclass(frozen=True)
class ModalityRelationGramConfig:
    """Generated data: three views of one latent vector, of which one is at times that of another sample.

    Attributes:
        latent: Size of the latent vector.
        classes: Number of classes.
        separation: Standard deviation of the class centers; the latent spread within a class is one.
        inputs: Width of every modality.
        noise: Standard deviation of the noise on every input.
        corruption: Probability that one of a sample's modalities is replaced by that of another sample.
        teacher_samples: Samples that the teacher learns from; the student sees the first ones of them.
        student_samples: How many.
        test_samples: Samples for testing.
        teacher_hidden: Hidden width of the teacher's encoders.
        teacher_width: Width of its common space.
        student_hidden: Hidden width of the student's encoders.
        student_width: Width of its common space.
        temperature: T of the output term.
        kd_weight: Weight of the output term; labels have weight one.
        gram_weight: Weight of the Gram term.
        teacher_epochs: Epochs of the teacher.
        epochs: Epochs of the students.
        batch_size: Samples per step.
        lr: Learning rate of Adam.
    """

    latent: int = 6
    classes: int = 4
    separation: float = 1.5
    inputs: tuple[int, ...] = (20, 15, 10)
    noise: float = 0.3
    corruption: float = 0.3
    teacher_samples: int = 2000
    student_samples: int = 200
    test_samples: int = 1000
    teacher_hidden: int = 64
    teacher_width: int = 32
    student_hidden: int = 16
    student_width: int = 8
    temperature: float = 4.0
    kd_weight: float = 1.0
    gram_weight: float = 1.0
    teacher_epochs: int = 20
    epochs: int = 100
    batch_size: int = 64
    lr: float = 2e-3

    def __post_init__(self) -> None:
        check_range("corruption", self.corruption, 0, 1)
        check_range("student_samples", self.student_samples, 1, self.teacher_samples)

    def training(self, epochs: int, seed: int) -> TrainConfig:
        """How networks are trained."""
        optimizer = OptimizerConfig("adam", lr=self.lr, weight_decay=0.0)
        return TrainConfig(epochs=epochs, batch_size=self.batch_size, seed=seed, optimizer=optimizer)


def modality_data(seed: int, config: ModalityRelationGramConfig) -> tuple[Split, Tensor]:
    """Draw all samples of a cell, those for testing last.

    Args:
        seed: The cell's seed; it also draws class centers and views.
        config: Sizes.

    Returns:
        Inputs with labels, and the corrupted modality of every sample ``(N,)``, -1 for none.
    """
    rng = generator(seed, "modality_relation_gram", "data")
    count = config.teacher_samples + config.test_samples
    centers = config.separation * rng.normal(size=(config.classes, config.latent))
    y = rng.integers(0, config.classes, count)
    latent = centers[y] + rng.normal(size=(count, config.latent))
    views = [np.tanh(latent @ rng.normal(size=(config.latent, size)) / config.latent**0.5) for size in config.inputs]
    corrupted = np.where(rng.uniform(size=count) < config.corruption, rng.integers(0, len(views), count), -1)
    donor = (np.arange(count) + rng.integers(1, count, count)) % count  # never the sample itself
    mixed = [np.where((corrupted == m)[:, None], view[donor], view) for m, view in enumerate(views)]
    x = np.concatenate(mixed, axis=1)
    x = x + config.noise * rng.normal(size=x.shape)
    return Split(torch.from_numpy(x).float(), torch.from_numpy(y)), torch.from_numpy(corrupted)


def run(seed: int, config: ModalityRelationGramConfig) -> Cell:
    """Train the teacher and one student per set of terms."""
    data, corrupted = modality_data(seed, config)
    rows = torch.arange(len(data))
    whole, test = data.take(rows[: config.teacher_samples]), data.take(rows[config.teacher_samples :])
    transfer, corrupted = data.take(rows[: config.student_samples]), corrupted[config.teacher_samples :]
    teacher = _fusion(seed, config, "teacher")
    train_classifier(teacher, whole, config.training(config.teacher_epochs, seed))
    cell = {"teacher": _figures(teacher, teacher, test, corrupted)}
    arms = {
        "labels only": (0.0, 0.0),
        "output": (config.kd_weight, 0.0),
        "gram": (0.0, config.gram_weight),
        "output and gram": (config.kd_weight, config.gram_weight),
    }
    for arm, (kd_weight, gram_weight) in arms.items():
        student = _fusion(seed, config, "student")
        _distil(student, teacher, transfer, config, seed, kd_weight=kd_weight, gram_weight=gram_weight)
        cell[arm] = _figures(student, teacher, test, corrupted)
    return cell


def _fusion(seed: int, config: ModalityRelationGramConfig, role: Literal["teacher", "student"]) -> CosineFusion:
    sizes = {"hidden": getattr(config, f"{role}_hidden"), "width": getattr(config, f"{role}_width")}
    return seeded(partial(CosineFusion, config.inputs, classes=config.classes, **sizes), seed, role)


def _distil(
    student: CosineFusion,
    teacher: CosineFusion,
    data: Split,
    config: ModalityRelationGramConfig,
    seed: int,
    *,
    kd_weight: float,
    gram_weight: float,
) -> None:
    """Train a student, in place, on labels, the teacher's outputs and its Gram matrices."""
    with torch.no_grad():
        taught = teacher.embeddings(data.x)
        answers = teacher.classify(taught)

    def loss(batch: Batch, epoch: int) -> Tensor:
        own = student.embeddings(batch.x)
        logits = student.classify(own)
        total = F.cross_entropy(logits, batch.targets)
        if kd_weight:
            total = total + kd_weight * kf.kd(logits, answers[batch.index], temperature=config.temperature)
        return total + gram_weight * gram_loss(own, taught[batch.index]) if gram_weight else total

    minimize(loss, student, data, config.training(config.epochs, seed))


@torch.no_grad()
def _figures(network: CosineFusion, teacher: CosineFusion, test: Split, corrupted: Tensor) -> dict[str, float]:
    own, taught = network.embeddings(test.x), teacher.embeddings(test.x)
    logits, hit = network.classify(own), corrupted >= 0
    cosines = torch.stack([pairwise_cosines(own).flatten(), pairwise_cosines(taught).flatten()])
    found = network.trust(own).argmin(1) == corrupted
    return {
        "accuracy": accuracy(logits, test.y),
        "accuracy on corrupted": accuracy(logits[hit], test.y[hit]),
        "agreement": agreement(logits, teacher.classify(taught)),
        "gram error": float(gram_loss(own, taught)),
        "cosine correlation": float(torch.corrcoef(cosines)[0, 1]),
        "corrupted modality found": float(found[hit].double().mean()),
    }


def _checked_embeddings(student: Tensor, teacher: Tensor, present: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    student, teacher = prepare_pair(student, teacher, what="modality embeddings", same_shape=False)
    if student.dim() != 3 or teacher.dim() != 3:
        raise ValueError(
            f"modality embeddings must be (B, M, d), got student {tuple(student.shape)}, teacher {tuple(teacher.shape)}"
        )
    if present is not None:
        if len(present) and not 0 <= min(present) <= max(present) < teacher.shape[1]:
            raise ValueError(f"present must lie in [0, {teacher.shape[1] - 1}], got {list(present)}")
        teacher = teacher[:, list(present)]
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"the student has {student.shape[1]} modalities, the teacher {teacher.shape[1]}; name those that the "
            "student has in present"
        )
    return student, teacher


def _both(metric: str, baseline: str, text: str, *, gate: float = 0.0, required: bool = True) -> Comparison:
    return Comparison(
        metric,
        student="output and gram",
        baseline=baseline,
        better="higher",
        gate=gate,
        required=required,
        text=text,
    )


EXPERIMENT = Experiment(
    name="modality_relation_gram",
    title="Distillation of the modality-level Gram matrix",
    paper="Liu, Multi-Modality Distillation via Learning the teacher's modality-level Gram Matrix, arXiv 2112.11447",
    claim="the Gram term hands over how modalities relate, which outputs alone do not, at no cost in accuracy",
    config=ModalityRelationGramConfig(),
    run=run,
    comparisons=(
        Comparison(
            "gram error",
            student="output and gram",
            baseline="output",
            better="lower",
            statistic="ratio",
            gate=0.5,
            text="held-out Gram error is at most half of that by outputs alone",
        ),
        Comparison(
            "cosine correlation",
            student="output and gram",
            better="higher",
            gate=0.7,
            text="held-out cosines correlate with the teacher's by more than 0.7",
        ),
        _both("cosine correlation", "output", "and by more than those of a student of outputs alone"),
        _both("accuracy", "output", "accuracy is not lower than by outputs alone by more than 1 point", gate=-0.01),
        _both(
            "accuracy on corrupted",
            "labels only",
            "on corrupted samples it is not lower than by labels alone by more than 1 point",
            gate=-0.01,
        ),
        _both("accuracy", "output", "accuracy is higher than by outputs alone", required=False),
        _both(
            "corrupted modality found", "output", "the corrupted modality is trusted least more often", required=False
        ),
    ),
    notes=(
        "Generated data; the paper's data and settings were not readable.",
        "Cosines mean something here because the networks fuse by them; with independent encoders they would not.",
    ),
)
