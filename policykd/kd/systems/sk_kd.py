"""SK-KD: similarity-keeping distillation for low-density EEG (Huang, Chen, Wei, IEEE TETCI 2024, arXiv 2212.03329).

The teacher decodes all electrodes, the student a few electrodes of the same trials; besides the logits it keeps the
teacher's similarity between trials, measured by the correlation over time of every channel of a feature map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, full_precision, prepare_pair, reduce_loss
from policykd.errors import check_range
from policykd.kd import functional as kf
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.networks import MLP
from policykd.kd.networks.penultimate import penultimate
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.budget import step_budget
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.evaluate import accuracy
from policykd.kd.training.loop import Loss, minimize, seeded, train_classifier
from policykd.seeding import generator, integer_seed


def keeping_gram(features: Tensor, *, center: bool = True) -> Tensor:
    """Mean over channels of the correlation in time between the samples of a batch.

    Huang et al. 2024, in the form of the official code: every channel's time course is centered and divided by its
    norm, and ``G_ab`` is the mean over channels of the inner products, so ``G_aa = 1`` and ``|G_ab| <= 1``.

    Departure: where a map has more axes between batch and time than channels, the mean is over all of them (the
    published networks have one row there).

    Args:
        features: ``(B, C, ..., T)``, time last. A channel without variation has norm zero and contributes 0.
        center: Subtract the mean over time; off for features without a time axis, given as ``(B, 1, D)``.

    Returns:
        ``(B, B)``.
    """
    courses = features.flatten(1, -2)
    courses = courses - courses.mean(-1, keepdim=True) if center else courses
    flat = F.normalize(courses, dim=-1).flatten(1)
    return flat @ flat.T / courses.shape[1]


@full_precision
def similarity_keeping(
    student: Tensor | Sequence[Tensor],
    teacher: Tensor | Sequence[Tensor],
    *,
    center: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Keep the teacher's similarity between the samples of a batch, block by block.

    ``sum_j 1 / B**2 || G_t - G_s ||_F**2`` over the blocks j, with ``keeping_gram``. Against ``sp``: amplitude and
    offset of every channel are removed, and rows are not normalized. The value depends on the batch by definition;
    under ``none`` sample i gets its row.

    Args:
        student: Feature map ``(B, C, ..., T)``, or several blocks of them.
        teacher: As many maps; channels and times may differ. Detached here.
        center: See ``keeping_gram``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: numbers of blocks or samples differ, a value is not finite, or the reduction is unknown.
    """
    students = (student,) if isinstance(student, Tensor) else tuple(student)
    teachers = (teacher,) if isinstance(teacher, Tensor) else tuple(teacher)
    if len(students) != len(teachers) or not students:
        raise ValueError(f"student and teacher need as many blocks, got {len(students)} and {len(teachers)}")
    values = [_rows(own, other, center) for own, other in zip(students, teachers, strict=True)]
    return reduce_loss(sum(values[1:], values[0]), reduction)


def _rows(student: Tensor, teacher: Tensor, center: bool) -> Tensor:
    student, teacher = prepare_pair(student, teacher, what="feature maps", min_dim=3, same_shape=False)
    gap = keeping_gram(student, center=center) - keeping_gram(teacher, center=center)
    return gap.square().mean(1)


@dataclass(frozen=True)
class SkKdConfig:
    """Generated features: sources mixed into many electrodes, of which the student has few.

    Attributes:
        classes: Number of classes.
        sources: Sources of the brain.
        electrodes: Electrodes that the teacher has.
        kept: Electrodes that the student has; by default Fz, C5, C6 and POz of BCI IV-2a.
        mean_scale: Standard deviation of the sources' class means; that of a source within a class is 1.
        noise: Standard deviation of the electrodes' noise.
        samples: Training samples of teacher and students.
        test_samples: Samples for the final figures.
        teacher_hidden: Width of the teacher's hidden layer, which is compared.
        student_hidden: Width of the student's.
        steps: Optimizer steps of all networks.
        batch_size: Samples per step, on which the loss depends; a last partial batch is left out.
        learning_rate: Of Adam.
        temperature: T of plain distillation.
        ce_weight: Weight of the cross-entropy where there is plain distillation.
        kd_weight: Weight of plain distillation.
        sk_weight: Weight of the similarity.
    """

    classes: int = 4
    sources: int = 6
    electrodes: int = 22
    kept: tuple[int, ...] = (0, 6, 12, 21)
    mean_scale: float = 1.3
    noise: float = 0.5
    samples: int = 120
    test_samples: int = 2000
    teacher_hidden: int = 32
    student_hidden: int = 16
    steps: int = 800
    batch_size: int = 120
    learning_rate: float = 2e-3
    temperature: float = 4.0
    ce_weight: float = 0.1
    kd_weight: float = 0.9
    sk_weight: float = 10.0

    def __post_init__(self) -> None:
        check_range("batch_size", self.batch_size, 2, self.samples)
        check_range("smallest of kept", min(self.kept), 0, self.electrodes - 1)
        check_range("largest of kept", max(self.kept), 0, self.electrodes - 1)


def source_trials(samples: Sequence[int], config: SkKdConfig, rng: np.random.Generator) -> list[Split]:
    """Generate splits of one mixture: class-dependent sources, a random mixing matrix, electrode noise.

    Args:
        samples: Size of each split.
        config: Sources, electrodes and scales.
        rng: Source of randomness.
    """
    means = config.mean_scale * rng.normal(size=(config.classes, config.sources))
    mixing = rng.normal(size=(config.sources, config.electrodes))
    splits = []
    for count in samples:
        labels = rng.integers(config.classes, size=count)
        sources = means[labels] + rng.normal(size=(count, config.sources))
        x = sources @ mixing + config.noise * rng.normal(size=(count, config.electrodes))
        splits.append(Split(torch.from_numpy(x).float(), torch.from_numpy(labels)))
    return splits


def run(seed: int, config: SkKdConfig) -> Cell:
    """Train a teacher and four students, which start alike and see the same batches."""
    train, test = source_trials((config.samples, config.test_samples), config, generator(seed, "sk_kd", "trials"))
    kept = list(config.kept)
    teacher = seeded(lambda: _network(config.electrodes, config.teacher_hidden, config), seed, "teacher")
    train_classifier(teacher, train, _budget(config, seed))
    with torch.no_grad():
        taught, expected = penultimate(teacher, train.x), penultimate(teacher, test.x)[0]
    few, few_test = (Split(split.x[:, kept], split.y) for split in (train, test))
    arms = {
        "ce": (1.0, 0.0, 0.0),
        "kd": (config.ce_weight, config.kd_weight, 0.0),
        "sk": (1.0, 0.0, config.sk_weight),
        "kd + sk": (config.ce_weight, config.kd_weight, config.sk_weight),
    }
    cell = {"teacher": {"accuracy": accuracy(teacher, test)}}
    for arm, weights in arms.items():
        student = seeded(lambda: _network(len(kept), config.student_hidden, config), seed, "student")
        loss = _loss(student, taught, weights, config.temperature)
        minimize(loss, student, few, _budget(config, integer_seed(seed, "student order")))
        with torch.no_grad():
            gap = _static_similarity(penultimate(student, few_test.x)[0], expected)
        cell[arm] = {"accuracy": accuracy(student, few_test), "gram gap": float(gap)}
    return cell


def _network(inputs: int, hidden: int, config: SkKdConfig) -> MLP:
    return MLP((inputs,), (hidden,), classes=config.classes)


def _budget(config: SkKdConfig, seed: int) -> TrainConfig:
    return step_budget(
        config.samples, steps=config.steps, batch_size=config.batch_size, learning_rate=config.learning_rate, seed=seed
    )


def _static_similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """The loss on features ``(B, D)`` without a time axis, which are normalized as they are."""
    return similarity_keeping(student[:, None], teacher[:, None], center=False)


def _loss(student: MLP, taught: tuple[Tensor, Tensor], weights: tuple[float, float, float], temperature: float) -> Loss:
    ce_weight, kd_weight, sk_weight = weights

    def loss(batch: Batch, epoch: int) -> Tensor:
        features, logits = penultimate(student, batch.x)
        known, target = (values[batch.index] for values in taught)
        total = ce_weight * F.cross_entropy(logits, batch.targets)
        if kd_weight:
            total = total + kd_weight * kf.kd(logits, target, temperature=temperature)
        return total + sk_weight * _static_similarity(features, known) if sk_weight else total

    return loss


def _closer(baseline: str) -> Comparison:
    return Comparison(
        "gram gap",
        student="sk",
        baseline=baseline,
        better="lower",
        gate=0.85,
        statistic="ratio",
        text=f"similarity of test samples at least 15 % closer to the teacher's than with {baseline}",
    )


EXPERIMENT = Experiment(
    name="sk_kd",
    title="Similarity-keeping distillation from many electrodes to few",
    paper="Huang, Chen, Wei, Enhancing Low-Density EEG-Based Brain-Computer Interfacing with Similarity-Keeping "
    "Knowledge Distillation, IEEE TETCI 8(2), 2024, arXiv 2212.03329",
    claim="a student with few electrodes takes over the teacher's similarity between unseen samples, at no cost in "
    "accuracy",
    config=SkKdConfig(),
    run=run,
    comparisons=(
        _closer("ce"),
        _closer("kd"),
        Comparison(
            "accuracy",
            student="sk",
            baseline="ce",
            better="higher",
            gate=-0.01,
            text="at most one point below cross-entropy",
        ),
        Comparison(
            "accuracy",
            student="kd + sk",
            baseline="ce",
            better="higher",
            required=False,
            text="more accurate than cross-entropy",
        ),
    ),
    notes=(
        "No gain in accuracy is to be expected on static Gaussian features: the few electrodes do not hold what the "
        "teacher knows more. The paper's gain is on recorded EEG.",
        "Features have no time axis here, so they are normalized without centering; the loss for feature maps over "
        "time is similarity_keeping.",
    ),
)
