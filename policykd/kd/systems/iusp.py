"""IUSP: intra-utterance similarity preserving distillation (Chang, Kao, Sun, Wang, Interspeech 2020, arXiv 2009.01759).

Similarity-preserving distillation (``sp``) compares the clips of a batch with one another; ``iusp`` compares the time
frames inside one clip. Both work on frame-level activations; multi-label teachers are distilled by ``binary_kd``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction, check_temperature, full_precision, prepare_pair, reduce_loss
from policykd.errors import check_range
from policykd.kd import functional as kf
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.losses.sp import similarity_matrix
from policykd.kd.training.batches import Batch
from policykd.kd.training.budget import step_budget
from policykd.kd.training.loop import Loss, minimize, seeded
from policykd.seeding import generator, integer_seed

Clips = tuple[Tensor, Tensor]  # frames (N, T, D), tags (N, C) in {0, 1}


@full_precision
def iusp(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None, reduction: Reduction = "mean") -> Tensor:
    """Keep the teacher's pattern of which frames of a clip look alike.

    ``1 / t**2 || G_s - G_t ||_F**2`` per clip, ``G[i, :] = (A A')[i, :] / || (A A')[i, :] ||_2`` over the frames of the
    clip: the loss ``sp`` of every clip as if its frames were a batch. Chang et al. 2020; the full text was not
    available: the similarity is that of the abstract, its normalization that of ``sp``, on which the paper builds.

    Departures: the mean over clips, average-pooling of the longer of two frame sequences, and masks are choices made
    here. Frames without activation have zero rows.

    Args:
        student: Frame-level activations ``(B, T, ...)``, time second (see ``frames_first``); flattened per frame.
        teacher: The same for the teacher ``(B, T', ...)``, detached here.
        mask: Which frames are real ``(B, T)``, boolean; padded ones leave rows, columns and t. Needs ``T == T'``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: shapes do not fit, a clip has no real frame, a value is not finite, or the reduction is unknown.
    """
    student, teacher = prepare_pair(student, teacher, what="frames", min_dim=3, same_shape=False)
    student, teacher = _same_rate(student.flatten(2), teacher.flatten(2), masked=mask is not None)
    batch, frames = student.shape[:2]
    if mask is not None:
        student, teacher = (
            torch.where(_checked_mask(mask, batch, frames)[..., None], a, 0.0) for a in (student, teacher)
        )
    gap = torch.vmap(similarity_matrix)(student) - torch.vmap(similarity_matrix)(teacher)
    count = mask.sum(1) if mask is not None else torch.full((batch,), frames, device=gap.device)
    return reduce_loss(gap.square().sum((1, 2)) / count.square(), reduction)


def frames_first(maps: Tensor) -> Tensor:
    """Bring convolutional maps ``(B, C, T, F)`` (time before frequency) into frames ``(B, T, C F)``."""
    if maps.dim() != 4:
        raise ValueError(f"maps must be (B, C, T, F), got {tuple(maps.shape)}")
    return maps.transpose(1, 2).flatten(2)


@full_precision
def binary_kd(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 2.0,
    scale_t2: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """Distil independent labels: ``BCE(sigmoid(z_s / T), sigmoid(z_t / T))``, the mean over labels.

    A cross-entropy: at ``student = teacher`` its value is the teacher's entropy and its gradient is zero.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        temperature: T > 0.
        scale_t2: Multiply by ``T**2``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is no floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is out of range.
    """
    check_temperature(temperature)
    student, teacher = prepare_pair(student, teacher, min_dim=2)
    soft = torch.sigmoid(teacher / temperature)
    values = F.binary_cross_entropy_with_logits(student / temperature, soft, reduction="none").mean(-1)
    return reduce_loss(values * temperature**2 if scale_t2 else values, reduction)


def micro_average_precision(scores: Tensor, labels: Tensor) -> float:
    """Average precision over all (clip, tag) decisions at once, as in urban sound tagging.

    Args:
        scores: ``(N, C)`` or ``(N,)``, higher is more likely.
        labels: 0 or 1, same shape.

    Raises:
        ValueError: Shapes differ, or no label is positive.
    """
    from sklearn.metrics import average_precision_score

    if scores.shape != labels.shape:
        raise ValueError(f"scores {tuple(scores.shape)} and labels {tuple(labels.shape)} need one shape")
    if not bool((labels > 0).any()):
        raise ValueError("average precision needs at least one positive label")
    return float(average_precision_score(labels.flatten().numpy() > 0, scores.detach().flatten().numpy()))


def relative_gain(baseline: float, reference: float, method: float) -> float:
    """By which share a method's improvement over the baseline exceeds a reference's: 0.27 is 27 % more.

    Raises:
        ValueError: The reference does not improve on the baseline; the ratio would mean nothing.
    """
    if not reference > baseline:
        raise ValueError(f"the reference ({reference}) must improve on the baseline ({baseline})")
    return (method - reference) / (reference - baseline)


def _same_rate(student: Tensor, teacher: Tensor, *, masked: bool) -> tuple[Tensor, Tensor]:
    if student.shape[1] == teacher.shape[1]:
        return student, teacher
    if masked:
        raise ValueError(f"a mask needs equal frame rates, got {student.shape[1]} and {teacher.shape[1]} frames")
    frames = min(student.shape[1], teacher.shape[1])
    return _pooled(student, frames), _pooled(teacher, frames)


def _pooled(features: Tensor, frames: int) -> Tensor:
    return F.adaptive_avg_pool1d(features.transpose(1, 2), frames).transpose(1, 2)


def _checked_mask(mask: Tensor, batch: int, frames: int) -> Tensor:
    if mask.dtype != torch.bool or tuple(mask.shape) != (batch, frames):
        raise ValueError(f"mask must be boolean ({batch}, {frames}), got {mask.dtype} {tuple(mask.shape)}")
    if not bool(mask.any(1).all()):
        raise ValueError("every clip needs at least one real frame")
    return mask


class FrameTagger(nn.Module):
    """A tagger of clips: an MLP on every frame, frame logits averaged over time and scaled.

    Args:
        width: Size of a frame.
        hidden: Widths of the hidden layers; the last one is the frame-level activation.
        tags: Number of tags.
        scale: Factor of the averaged logits, since an event fills only some frames of its clip.
    """

    def __init__(self, width: int, hidden: tuple[int, ...], tags: int, *, scale: float = 3.0) -> None:
        super().__init__()
        widths = (width, *hidden)
        layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
        self.layers, self.fc, self.scale = nn.Sequential(*layers), nn.Linear(widths[-1], tags), scale

    def frames(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Frame-level activations ``(B, T, H)`` and logits ``(B, C)`` of clips ``(B, T, D)``."""
        features = self.layers(clips)
        return features, self.scale * self.fc(features).mean(1)

    def forward(self, clips: Tensor) -> Tensor:
        """Map clips ``(B, T, D)`` to logits ``(B, C)``."""
        return self.frames(clips)[1]


@dataclass(frozen=True)
class IuspConfig:
    """Generated clips: events with random prototypes come and go in noise.

    Attributes:
        tags: Number of events.
        width: Size of a frame.
        frames: Frames of a clip.
        prior: Probability that an event is in a clip.
        active: Probability that a frame shows one of the clip's events rather than background.
        prototype_scale: Standard deviation of the prototypes; that of the noise is 1.
        teacher_clips: Clips that the teacher is trained on.
        clips: Clips that the students see, all tagged.
        test_clips: Clips for the final figure.
        teacher_hidden: Widths of the teacher's layers; the last one is compared.
        student_hidden: Widths of the student's.
        teacher_batch: Clips per step of the teacher.
        batch_size: Clips per step of the students.
        teacher_steps: Optimizer steps of the teacher.
        steps: Optimizer steps of every student.
        learning_rate: Of Adam.
        temperature: T of plain distillation.
        kd_weight: Weight of plain distillation.
        similarity_weight: Weight of either similarity loss.
    """

    tags: int = 6
    width: int = 24
    frames: int = 10
    prior: float = 0.25
    active: float = 0.7
    prototype_scale: float = 0.6
    teacher_clips: int = 3000
    clips: int = 100
    test_clips: int = 600
    teacher_hidden: tuple[int, ...] = (128, 64)
    student_hidden: tuple[int, ...] = (16, 16)
    teacher_batch: int = 64
    batch_size: int = 16
    teacher_steps: int = 500
    steps: int = 500
    learning_rate: float = 2e-3
    temperature: float = 2.0
    kd_weight: float = 1.0
    similarity_weight: float = 100.0

    def __post_init__(self) -> None:
        check_range("prior", self.prior, 0.01, 0.99)
        check_range("active", self.active, 0.0, 1.0)
        check_range("clips", self.clips, 2, 10**6)


def event_clips(prototypes: np.ndarray, clips: int, config: IuspConfig, rng: np.random.Generator) -> Clips:
    """Generate clips: every frame is noise, plus the prototype of one of the clip's events if it is an active frame.

    Args:
        prototypes: ``(C, D)``.
        clips: N.
        config: Frames, prior and activity.
        rng: Source of randomness.
    """
    tags = rng.random((clips, config.tags)) < config.prior
    frames = rng.normal(size=(clips, config.frames, config.width))
    # the largest of random numbers is a fair draw among the events that are there
    chosen = np.where(tags[:, None], rng.random((clips, config.frames, config.tags)), -1.0).argmax(2)
    shown = (rng.random((clips, config.frames)) < config.active) & tags.any(1, keepdims=True)
    frames += shown[..., None] * prototypes[chosen]
    return torch.from_numpy(frames).float(), torch.from_numpy(tags).float()


def run(seed: int, config: IuspConfig) -> Cell:
    """Train a teacher and four students, which start alike and see the same batches."""
    rng = generator(seed, "iusp", "clips")
    prototypes = config.prototype_scale * rng.normal(size=(config.tags, config.width))
    sizes = (config.teacher_clips, config.clips, config.test_clips)
    many, few, test = (event_clips(prototypes, clips, config, rng) for clips in sizes)
    teacher = seeded(lambda: FrameTagger(config.width, config.teacher_hidden, config.tags), seed, "teacher")
    rate = config.learning_rate
    budget = step_budget(
        len(many[0]), steps=config.teacher_steps, batch_size=config.teacher_batch, learning_rate=rate, seed=seed
    )
    minimize(_loss(teacher, None, "baseline", config), teacher, many, budget)
    order = integer_seed(seed, "student order")
    budget = step_budget(len(few[0]), steps=config.steps, batch_size=config.batch_size, learning_rate=rate, seed=order)
    cell = {"teacher": _figures(teacher, test)}
    for arm in ("baseline", "kd", "sp", "iusp"):
        student = seeded(lambda: FrameTagger(config.width, config.student_hidden, config.tags), seed, "student")
        minimize(_loss(student, teacher, arm, config), student, few, budget)
        cell[arm] = _figures(student, test)
    return cell


def _loss(student: FrameTagger, teacher: FrameTagger | None, arm: str, config: IuspConfig) -> Loss:
    similarity = {"sp": kf.sp, "iusp": iusp}.get(arm)

    def loss(batch: Batch, epoch: int) -> Tensor:
        features, logits = student.frames(batch.x)
        total = F.binary_cross_entropy_with_logits(logits, batch.targets)
        if teacher is None or arm == "baseline":
            return total
        with torch.no_grad():
            known, target = teacher.frames(batch.x)
        if similarity is not None:
            return total + config.similarity_weight * similarity(features, known)
        return total + config.kd_weight * binary_kd(logits, target, temperature=config.temperature)

    return loss


@torch.no_grad()
def _figures(tagger: FrameTagger, test: Clips) -> dict[str, float]:
    return {"average precision": micro_average_precision(tagger(test[0]), test[1])}


EXPERIMENT = Experiment(
    name="iusp",
    title="Intra-utterance similarity preserving distillation for tagging",
    paper="Chang, Kao, Sun, Wang, Intra-Utterance Similarity Preserving Knowledge Distillation for Audio Tagging, "
    "Interspeech 2020, arXiv 2009.01759",
    claim="similarity between the frames of a clip teaches a small tagger more than similarity between clips, and both "
    "beat no distillation",
    config=IuspConfig(),
    run=run,
    comparisons=(
        Comparison(
            "average precision",
            student="iusp",
            baseline="sp",
            better="higher",
            text="frame similarity above clip similarity at one weight",
        ),
        Comparison(
            "average precision",
            student="sp",
            baseline="baseline",
            better="higher",
            text="clip similarity above no distillation",
        ),
        Comparison(
            "average precision",
            student="iusp",
            baseline="kd",
            better="higher",
            required=False,
            text="frame similarity above plain distillation",
        ),
    ),
    notes=(
        "Clips are generated; the paper's data are recordings of urban sound. The full text was not available: "
        "normalization is that of similarity-preserving distillation, averaging over clips a choice made here.",
        "One weight serves both similarity losses, although their values differ in size.",
    ),
)
