"""Distillation on mixed samples: full and partial mixup, and logits divided by their standard deviation.

Choi, Jeon, Shukla and Turaga, Understanding the Role of Mixup in Knowledge Distillation: An Empirical Study (WACV 2023,
arXiv 2211.03946). Mixup and temperature both smooth the targets, and both at once are too much. So mix a part of the
samples only (partial mixup, PMU), and let every sample's own logits set its temperature: with ``u = z_s / std(z_s)``
and ``w = z_t / std(z_t)``, ``L = ce_weight CE(u, y~) + kd_weight KL(softmax(w) || softmax(u))``, without ``T**2``.

Departures: partial mixup mixes exactly the fraction it is told; the released code draws the unmixed samples with
replacement, which leaves more of them mixed, and stands beside it as ``mode="reference"``. Constant logits stay
constant instead of becoming NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import categorical_kl, check_temperature, full_precision, prepare_pair
from policykd.errors import check_range
from policykd.kd import functional as kf
from policykd.kd.experiments.digits import CLASSES, PIXELS, digits_rows
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.losses.lskd import standardize
from policykd.kd.metrics import accuracy, entropy
from policykd.kd.networks import MLP
from policykd.kd.options import check_choice
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.evaluate import predict
from policykd.kd.training.loop import ADAM, Loss, minimize, seeded
from policykd.seeding import generator, integer_seed

SoftLoss = Callable[[Tensor, Tensor, Tensor], Tensor]  # (student's logits, teacher's, label distributions) -> scalar


@dataclass(frozen=True)
class Mixup:
    """Mixes samples of a batch in pairs, with a coefficient per sample.

    ``x~_i = a_i x_r(i) + (1 - a_i) x_s(i)`` and likewise for one-hot labels, with two random permutations r and s.

    Attributes:
        beta: Coefficients follow Beta(beta, beta); 1 is uniform, toward 0 they become 0 or 1.
        fraction: Share of the samples that is mixed: 1 is full mixup (FMU), less is partial (PMU), 0 permutes only.
        mode: ``exact`` leaves all but ``round(fraction B)`` samples unmixed; ``reference`` draws
            ``floor((1 - fraction) B)`` of them with replacement, so that more are mixed than the fraction says.

    Raises:
        ConfigError: ``beta`` or ``fraction`` is out of range.
        ValueError: The mode is unknown.
    """

    beta: float = 1.0
    fraction: float = 1.0
    mode: Literal["exact", "reference"] = "exact"

    def __post_init__(self) -> None:
        check_range("beta", self.beta, 1e-6, 1e6)
        check_range("fraction", self.fraction, 0.0, 1.0)
        check_choice("mode", self.mode, ("exact", "reference"))

    def coefficients(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """The coefficients a ``(count,)`` of a batch, 1 where a sample stays unmixed."""
        a = rng.beta(self.beta, self.beta, count)
        if self.mode == "exact":
            a[rng.permutation(count)[round(self.fraction * count) :]] = 1.0
        else:
            a[rng.integers(0, count, int((1 - self.fraction) * count))] = 1.0
        return a

    def __call__(self, x: Tensor, targets: Tensor, classes: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            x: Inputs ``(B, ...)``.
            targets: Labels ``(B,)``.
            classes: Number of classes C.
            rng: What draws; torch's own seed has no part in it.

        Returns:
            Mixed inputs ``(B, ...)`` and label distributions ``(B, C)``.
        """
        count = len(x)
        a = torch.from_numpy(self.coefficients(count, rng)).to(x)
        first, second = (torch.from_numpy(rng.permutation(count)) for _ in range(2))
        y = F.one_hot(targets, classes).to(x)
        wide = a.view(-1, *[1] * (x.dim() - 1))
        return wide * x[first] + (1 - wide) * x[second], a[:, None] * y[first] + (1 - a[:, None]) * y[second]


def std_scaled(logits: Tensor) -> Tensor:
    """Logits ``(B, C)`` centered and divided by their standard deviation over classes (divisor C - 1).

    Softmax does not see the centering; the division is a temperature of each sample's own, and it bounds how sharp the
    distribution can be: no entry exceeds ``(C - 1) / sqrt(C)``.
    """
    return standardize(logits, variant="code", eps=1e-6)


@full_precision
def std_scaled_loss(
    student: Tensor, teacher: Tensor, target: Tensor, *, ce_weight: float = 0.1, kd_weight: float = 0.9
) -> Tensor:
    """``ce_weight CE(u, y) + kd_weight KL(softmax(w) || softmax(u))`` on logits scaled by their standard deviations.

    The gradient flows through the student's standard deviation. No temperature, no ``T**2``.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)`` for the same, mixed, inputs; detached here.
        target: Labels ``(B,)`` or label distributions ``(B, C)``.
        ce_weight: Weight of the cross-entropy.
        kd_weight: Weight of the divergence.

    Raises:
        TypeError: An input is no floating-point tensor.
        ValueError: Shapes differ or a value is not finite.
    """
    student, teacher = prepare_pair(student, teacher, min_dim=2)
    u, w = std_scaled(student), std_scaled(teacher)
    return ce_weight * F.cross_entropy(u, target) + kd_weight * categorical_kl(u, w)


@dataclass(frozen=True)
class MixupKDConfig:
    """The experiment on the digits.

    Attributes:
        teacher_hidden: Widths of the teachers.
        student_hidden: Widths of the students.
        beta: Parameter of the coefficients' distribution.
        partial: Fraction that partial mixup mixes.
        temperature: T of the classical loss.
        ce_weight: Weight of the cross-entropy.
        kd_weight: Weight of the divergence.
        epochs: Epochs of every network.
        batch_size: Samples per step.
        lr: Learning rate of Adam.
    """

    teacher_hidden: tuple[int, ...] = (128,)
    student_hidden: tuple[int, ...] = (24,)
    beta: float = 1.0
    partial: float = 0.1
    temperature: float = 4.0
    ce_weight: float = 0.1
    kd_weight: float = 0.9
    epochs: int = 60
    batch_size: int = 128
    lr: float = 5e-3

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_range("partial", self.partial, 0.0, 1.0)
        check_range("ce_weight", self.ce_weight, 0.0, 1e6)
        check_range("kd_weight", self.kd_weight, 0.0, 1e6)

    def training(self, seed: int, role: str) -> TrainConfig:
        """The training of all networks of a role."""
        order = integer_seed(seed, "order", role)
        return TrainConfig(self.epochs, self.batch_size, seed=order, optimizer=replace(ADAM, lr=self.lr))

    @property
    def mixups(self) -> dict[str, Mixup | None]:
        """The ways of mixing by name."""
        return {"no mixup": None, "PMU": Mixup(self.beta, self.partial), "FMU": Mixup(self.beta)}

    @property
    def losses(self) -> dict[str, SoftLoss]:
        """The two losses by name."""

        def classical(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
            soft = kf.kd(student, teacher, temperature=self.temperature)
            return self.ce_weight * F.cross_entropy(student, target) + self.kd_weight * soft

        def scaled(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
            return std_scaled_loss(student, teacher, target, ce_weight=self.ce_weight, kd_weight=self.kd_weight)

        return {"fixed T": classical, "std": scaled}


def mixed_loss(
    network: nn.Module, teacher: nn.Module | None, loss: SoftLoss, mixup: Mixup | None, rng: np.random.Generator
) -> Loss:
    """A training loss on mixed batches; the teacher sees the same mixed inputs, its outputs are not mixed.

    Args:
        network: What is trained.
        teacher: The teacher in eval mode; None gives plain cross-entropy with the mixed labels.
        loss: The loss of student's and teacher's logits and label distributions; unused without a teacher.
        mixup: How to mix, or None.
        rng: What draws.
    """

    def step(batch: Batch, epoch: int) -> Tensor:
        x, y = batch.x, F.one_hot(batch.targets, CLASSES).to(batch.x)
        if mixup is not None:
            x, y = mixup(batch.x, batch.targets, CLASSES, rng)
        logits = network(x)
        if teacher is None:
            return F.cross_entropy(logits, y)
        with torch.no_grad():
            taught = teacher(x)
        return loss(logits, taught, y)

    return step


def run(seed: int, config: MixupKDConfig) -> Cell:
    """One cell: a plain and a mixup teacher, the plain one's students under both losses and every mixup."""
    train, test = digits_rows(seed, (0.4, 0.6))
    teachers = {
        "plain teacher": _train(seed, config, train, None, "fixed T", "no mixup"),
        "mixup teacher": _train(seed, config, train, None, "fixed T", "FMU"),
    }
    cell = {name: _teacher_figures(network, test, config) for name, network in teachers.items()}
    chosen = [("plain teacher", loss, mixup) for loss in config.losses for mixup in config.mixups]
    for name, loss, mixup in [*chosen, ("mixup teacher", "fixed T", "FMU")]:
        student = _train(seed, config, train, teachers[name], loss, mixup)
        cell[f"{name}, {loss}, {mixup}"] = {"accuracy": accuracy(*predict(student, test))}
    return cell


def _train(
    seed: int, config: MixupKDConfig, data: Split, teacher: nn.Module | None, loss: str, mixup: str
) -> nn.Module:
    role, hidden = ("teacher", config.teacher_hidden) if teacher is None else ("student", config.student_hidden)
    network = seeded(lambda: MLP((PIXELS,), hidden, classes=CLASSES), seed, role)
    step = mixed_loss(network, teacher, config.losses[loss], config.mixups[mixup], generator(seed, "mixup", role))
    minimize(step, network, data, config.training(seed, role))
    return network


def _teacher_figures(network: nn.Module, data: Split, config: MixupKDConfig) -> dict[str, float]:
    logits, labels = predict(network, data)
    return {
        "accuracy": accuracy(logits, labels),
        "entropy": entropy(logits),
        "entropy_at_t": entropy(logits, temperature=config.temperature),
    }


EXPERIMENT = Experiment(
    name="mixup_kd",
    title="Partial mixup and logits scaled by their standard deviation",
    paper="Choi, Jeon, Shukla, Turaga, WACV 2023, arXiv 2211.03946",
    claim="Mixup smooths a teacher, which makes it a worse one at a high temperature; "
    "scaling by the standard deviation replaces the temperature.",
    config=MixupKDConfig(),
    run=run,
    comparisons=(
        *(
            Comparison(
                metric,
                student="mixup teacher",
                baseline="plain teacher",
                better="higher",
                text=f"entropy of the mixup teacher's predictions at {where}",
            )
            for metric, where in (("entropy", "T = 1"), ("entropy_at_t", "the distillation's T"))
        ),
        Comparison(
            "accuracy",
            student="mixup teacher, fixed T, FMU",
            baseline="plain teacher, fixed T, FMU",
            better="lower",
            text="accuracy of the mixup teacher's student against the plain teacher's, both with full mixup",
        ),
        Comparison(
            "accuracy",
            student="plain teacher, std, no mixup",
            baseline="plain teacher, fixed T, no mixup",
            better="higher",
            gate=-0.003,
            text="scaled logits not worse than a fixed T by 0.3 points",
        ),
        *(
            Comparison(
                "accuracy",
                student=f"plain teacher, std, {mixup}",
                baseline=f"plain teacher, fixed T, {mixup}",
                better="higher",
                gate=-0.003,
                required=False,
                text=f"the same with {mixup}",
            )
            for mixup in ("PMU", "FMU")
        ),
    ),
    notes=("Differences between partial and full mixup are inside the noise of this setting.",),
)
