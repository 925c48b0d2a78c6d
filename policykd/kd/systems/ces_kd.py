"""Curriculum-based expert selection: each sample is taught by one expert, chosen by how hard the sample is.

Amara, Ziaeefard, Meyer, Gross, Clark, CES-KD (arXiv 2209.07606). Experts are ordered by capacity. Easy samples go to
small experts, hard ones to large experts, and the large ones are unlocked one after the other during training.

Departures: scoring, strata and pacing are our construction. Only the abstract was readable, so they follow its
sentences and not the authors' code. Experts are trained on labels; a chain of assistants is not among the baselines
(see ``takd``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from policykd.divergences import prepare_tensor
from policykd.errors import ConfigError, check_range
from policykd.kd.ensembles import ensemble_logits
from policykd.kd.experiments.digits import CLASSES, PIXELS, digits_rows
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.metrics import measure
from policykd.kd.networks import MLP, count_parameters
from policykd.kd.shapes import check_labels
from policykd.kd.training.config import OptimizerConfig, TrainConfig
from policykd.kd.training.evaluate import predict
from policykd.kd.training.loop import seeded, train_classifier
from policykd.kd.training.stacked import distil_side_by_side
from policykd.seeding import generator


def difficulty(expert_logits: Tensor, target: Tensor) -> Tensor:
    """How hard every sample is for the experts: one minus their mean probability of its label.

    Args:
        expert_logits: ``(K, N, C)`` on clean inputs, experts in order of capacity.
        target: Labels ``(N,)``.

    Returns:
        ``(N,)`` in [0, 1], off the graph; lower is easier.

    Raises:
        ValueError: Shapes do not fit, or a value is not finite.
    """
    logits = _checked_experts(expert_logits)
    labels = check_labels(logits[0], target)
    confidence = logits.softmax(-1).mean(0).gather(1, labels[:, None])[:, 0]
    return 1.0 - confidence


def strata(scores: Tensor, experts: int) -> Tensor:
    """Cut samples into equal parts by rank of difficulty: ``floor(rank K / N)``.

    Args:
        scores: Difficulty ``(N,)``; only the order matters, ties go by position.
        experts: Number of experts K.

    Returns:
        Stratum of every sample ``(N,)`` in [0, K), 0 the easiest (the paper's counting from one, less one).

    Raises:
        ConfigError: K is below one.
        ValueError: Scores are no finite vector.
    """
    check_range("experts", experts, 1, float("inf"))
    scores = prepare_tensor("difficulty", scores)
    if scores.dim() != 1:
        raise ValueError(f"difficulty must be (N,), got {tuple(scores.shape)}")
    ranks = torch.empty(len(scores), dtype=torch.long, device=scores.device)
    ranks[scores.argsort(stable=True)] = torch.arange(len(scores), device=scores.device)
    return ranks * experts // len(scores)


def unlocked(epoch: float, *, experts: int, curriculum_epochs: float) -> int:
    """How many experts teach at an epoch: ``min(K, 1 + floor(K e / E_c))``, from the smallest one on.

    Args:
        epoch: Epochs done.
        experts: Number of experts K.
        curriculum_epochs: E_c, epochs until the pacing has ended; 0 for no pacing.

    Raises:
        ConfigError: A negative epoch or length, or no expert.
    """
    check_range("epoch", epoch, 0, float("inf"))
    check_range("experts", experts, 1, float("inf"))
    check_range("curriculum_epochs", curriculum_epochs, 0, float("inf"))
    if epoch >= curriculum_epochs:
        return experts
    return min(experts, 1 + int(experts * epoch // curriculum_epochs))


def assigned(stratum: Tensor, available: int) -> Tensor:
    """The expert of every sample ``(N,)``: its stratum, or the largest expert that is unlocked.

    Args:
        stratum: From :func:`strata`.
        available: Number of unlocked experts, from :func:`unlocked`.

    Raises:
        ConfigError: No expert is unlocked.
    """
    check_range("available", available, 1, float("inf"))
    return stratum.clamp(max=available - 1)


def selected_logits(expert_logits: Tensor, expert: Tensor) -> Tensor:
    """The logits of each sample's own expert.

    Args:
        expert_logits: ``(K, B, C)``.
        expert: Position of the expert ``(B,)`` in [0, K).

    Returns:
        ``(B, C)``, off the graph.

    Raises:
        ValueError: Shapes do not fit, or a position is out of range.
    """
    logits = _checked_experts(expert_logits)
    count, batch, _ = logits.shape
    if expert.shape != (batch,):
        raise ValueError(
            f"expert must have shape ({batch},) for logits {tuple(logits.shape)}, got {tuple(expert.shape)}"
        )
    if int(expert.min()) < 0 or int(expert.max()) >= count:
        raise ValueError(f"expert must lie in [0, {count - 1}], got {int(expert.min())} to {int(expert.max())}")
    return logits.take_along_dim(expert[None, :, None], 0)[0]


def check_capacity_order(sizes: Sequence[float]) -> None:
    """Refuse experts that are not in ascending order of capacity (parameter counts or validation accuracies).

    Raises:
        ConfigError: They are not.
    """
    if any(later <= earlier for earlier, later in itertools.pairwise(sizes)):
        raise ConfigError(f"experts must come in ascending order of capacity, got {list(sizes)}")


@dataclass(frozen=True)
class CesKdConfig:
    """Digits; three experts of growing capacity and a student far smaller than any.

    Attributes:
        train_share: share of the digits for training; the rest is for testing.
        expert_hidden: hidden widths of every expert, in ascending order of capacity.
        student_hidden: hidden width of the student.
        temperature: T of the distillation.
        kd_weight: weight of the divergence; the labels get the rest.
        epochs: epochs of experts and students.
        curriculum_epochs: epochs until the pacing has ended.
        batch_size: samples per step.
        lr: learning rate of Adam.
    """

    train_share: float = 0.4
    expert_hidden: tuple[tuple[int, ...], ...] = ((16,), (64,), (256, 256))
    student_hidden: int = 6
    temperature: float = 4.0
    kd_weight: float = 0.7
    epochs: int = 80
    curriculum_epochs: float = 50.0
    batch_size: int = 64
    lr: float = 2e-3

    def __post_init__(self) -> None:
        check_range("train_share", self.train_share, 0.05, 0.95)
        check_range("kd_weight", self.kd_weight, 0, 1)
        check_range("curriculum_epochs", self.curriculum_epochs, 0, float("inf"))

    def training(self, seed: int) -> TrainConfig:
        """How networks are trained."""
        optimizer = OptimizerConfig("adam", lr=self.lr, weight_decay=0.0)
        return TrainConfig(epochs=self.epochs, batch_size=self.batch_size, seed=seed, optimizer=optimizer)


Teaching = Callable[[int], Tensor]  # epoch -> teacher logits (N, C) of that epoch
_NO_TEACHER = "labels only"


def run(seed: int, config: CesKdConfig) -> Cell:
    """Train the experts and one student per way to choose among them."""
    train, test = digits_rows(seed, (config.train_share, 1 - config.train_share))
    experts = [
        train_classifier(seeded(partial(_network, hidden), seed, "expert", place), train, config.training(seed))
        for place, hidden in enumerate(config.expert_hidden)
    ]
    check_capacity_order([count_parameters(expert) for expert in experts])
    logits = torch.stack([predict(expert, train)[0] for expert in experts])
    cell = {f"expert {place + 1}": measure(expert, test) for place, expert in enumerate(experts)}
    arms = _teachings(seed, config, logits, train.y)
    students = [seeded(partial(_network, (config.student_hidden,)), seed, "student") for _ in arms]
    distil_side_by_side(
        students,
        lambda epoch: torch.stack([teaching(epoch) for teaching in arms.values()]),
        train,
        config.training(seed),
        temperature=config.temperature,
        kd_weights=[0.0 if arm == _NO_TEACHER else config.kd_weight for arm in arms],
    )
    return cell | {arm: measure(own, test, teacher=experts[-1]) for arm, own in zip(arms, students, strict=True)}


def _teachings(seed: int, config: CesKdConfig, logits: Tensor, y: Tensor) -> dict[str, Teaching]:
    """What teaches in every arm."""
    count = len(logits)
    easy_first = strata(difficulty(logits, y), count)
    drawn = torch.from_numpy(generator(seed, "ces_kd", "random expert").integers(0, count, len(y)))

    def paced(stratum: Tensor, epoch: int) -> Tensor:
        return assigned(stratum, unlocked(epoch, experts=count, curriculum_epochs=config.curriculum_epochs))

    def fixed(targets: Tensor) -> Teaching:
        return lambda epoch: targets

    return {
        "expert selection": lambda epoch: selected_logits(logits, paced(easy_first, epoch)),
        "reversed curriculum": lambda epoch: selected_logits(logits, count - 1 - paced(easy_first, epoch)),
        "reversed strata": lambda epoch: selected_logits(logits, paced(count - 1 - easy_first, epoch)),
        "no pacing": fixed(selected_logits(logits, easy_first)),
        "random expert": fixed(selected_logits(logits, drawn)),
        "mean of experts": fixed(ensemble_logits(logits, np.ones(count), temperature=config.temperature)),
        "smallest expert": fixed(logits[0]),
        "largest expert": fixed(logits[-1]),
        _NO_TEACHER: fixed(logits[-1]),  # not read: its weight is 0
    }


def _network(hidden: tuple[int, ...]) -> nn.Module:
    return MLP((PIXELS,), hidden, classes=CLASSES)


def _better_than(baseline: str, gate: float, text: str, *, required: bool = True) -> Comparison:
    return Comparison(
        "accuracy",
        student="expert selection",
        baseline=baseline,
        better="higher",
        gate=gate,
        required=required,
        text=f"selecting the expert by difficulty is {text}",
    )


EXPERIMENT = Experiment(
    name="ces_kd",
    title="Curriculum-based expert selection",
    paper="Amara, Ziaeefard, Meyer, Gross, Clark, CES-KD, arXiv 2209.07606",
    claim="a small student learns more when each sample is taught by an expert as strong as the sample is hard",
    config=CesKdConfig(),
    run=run,
    comparisons=(
        _better_than("largest expert", 0.015, "more than 1.5 points better than the largest expert"),
        _better_than("random expert", 0.007, "more than 0.7 points better than a random expert per sample"),
        _better_than("reversed curriculum", 0.02, "more than 2 points better than the reversed curriculum"),
        _better_than("smallest expert", -0.005, "not worse than the smallest expert by more than 0.5 points"),
        _better_than("reversed strata", 0.0, "better than reversed strata at the same pacing", required=False),
        _better_than("mean of experts", 0.0, "better than the mean of the experts", required=False),
        _better_than("no pacing", 0.0, "better than the same assignment from the start", required=False),
        _better_than(_NO_TEACHER, 0.0, "better than no teacher", required=False),
    ),
    notes=(
        "Scoring, strata and pacing are our reading of the abstract; the authors' code was not found.",
        "The reversed curriculum mirrors the choice at every epoch: all samples begin with the largest expert and hard "
        "ones move to small ones. Reversed strata keep the pacing and swap easy and hard, a milder control.",
        "The student is so small that no teacher need beat plain labels here; that comparison is not required.",
    ),
)


def _checked_experts(expert_logits: Tensor) -> Tensor:
    logits = prepare_tensor("expert logits", expert_logits.detach())
    if logits.dim() != 3:
        raise ValueError(f"expert logits must be (K, N, C), got {tuple(logits.shape)}")
    return logits
