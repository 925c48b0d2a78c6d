"""Online distillation that balances forward and reverse divergence by the entropies of the two networks.

Amara, Sepahvand, Meyer, Gross and Clark, BD-KD: Balancing the Divergences for Online Knowledge Distillation
(arXiv 2212.12965). Teacher and student learn together. For every sample the student's loss weights
``F = KL(teacher || student)``, which widens an over-confident student, against ``R = KL(student || teacher)``, which
sharpens an under-confident one; the teacher is regularized by ``KL(teacher || student)`` alone. With ``wR = 0`` for the
student and ``KL(student || teacher)`` for the teacher it is deep mutual learning (DML, Zhang et al. 2018).

Departures: only the abstract was readable. The rule ``Balance`` and its delta are a reconstruction from it, other rules
stand beside it; temperature, weight and schedule are ours. Both networks step together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction, categorical_kl, check_temperature, full_precision, reduce_loss
from policykd.errors import check_range
from policykd.kd.experiments.digits import PIXELS, digits_rows, with_label_noise
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.metrics import measure
from policykd.kd.networks import MLP
from policykd.kd.tasks.base import Split
from policykd.kd.training.batches import Batch
from policykd.kd.training.config import TrainConfig
from policykd.kd.training.loop import ADAM, Loss, minimize, seeded, train_classifier
from policykd.seeding import integer_seed

Term = Callable[[Tensor, Tensor], Tensor]  # (own logits, the peer's logits, detached) -> scalar


class Rule(Protocol):
    """Weighs forward against reverse divergence, sample by sample."""

    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of forward and reverse KL ``(B,)`` from the entropies ``(B,)`` of student and teacher, in nats."""
        ...


@dataclass(frozen=True)
class Balance:
    """Pulls the student's entropy toward the teacher's: the divergence that does gets the weight ``delta``.

    Attributes:
        delta: At least 1; at 1 both divergences always weigh the same.
        flipped: Give it to the other divergence, as a control.
    """

    delta: float = 2.0
    flipped: bool = False

    def __post_init__(self) -> None:
        check_range("delta", self.delta, 1.0, 1e6)

    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Rule`."""
        one, delta = torch.ones_like(student), torch.full_like(student, self.delta)
        forward = torch.where(student < teacher, delta, one)
        reverse = torch.where(student > teacher, delta, one)
        return (reverse, forward) if self.flipped else (forward, reverse)


@dataclass(frozen=True)
class Fixed:
    """The same weights for all samples.

    Attributes:
        forward: Weight of the forward KL.
        reverse: Weight of the reverse KL.
    """

    forward: float = 1.0
    reverse: float = 1.0

    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Rule`."""
        return torch.full_like(student, self.forward), torch.full_like(student, self.reverse)


@dataclass(frozen=True)
class Soft:
    """A smooth balance: ``wF = 2 sigmoid((H_teacher - H_student) / tau)`` and ``wR = 2 - wF``.

    Attributes:
        tau: Entropy gap over which the weights move, nats, above 0.
    """

    tau: float = 0.5

    def __post_init__(self) -> None:
        check_range("tau", self.tau, 1e-9, 1e9, "nats")

    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Rule`."""
        forward = 2 * torch.sigmoid((teacher - student) / self.tau)
        return forward, 2 - forward


def entropies(logits: Tensor) -> Tensor:
    """Shannon entropy ``(B,)`` of ``softmax(logits)``, in nats, off the graph."""
    log_p = logits.detach().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


@full_precision
def balanced_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    rule: Rule = Balance(),
    temperature: float = 2.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The student's term ``T**2 (wF KL(teacher || student) + wR KL(student || teacher))``.

    Entropies are compared at temperature 1 whatever T is, and carry no gradient.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        rule: How the weights follow from the entropies.
        temperature: T > 0.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: An input is no floating-point tensor.
        ValueError: Shapes differ, a value is not finite, or an option is out of range.
    """
    forward = categorical_kl(student, teacher, temperature=temperature, reduction="none")
    reverse = categorical_kl(student, teacher, direction="reverse", temperature=temperature, reduction="none")
    w_forward, w_reverse = rule(entropies(student), entropies(teacher))
    return reduce_loss(w_forward * forward + w_reverse * reverse, reduction)


def own_first_kl(own: Tensor, peer: Tensor, *, temperature: float = 2.0) -> Tensor:
    """The teacher's term ``T**2 KL(own || peer)``, mean over logits ``(B, C)``; the peer is detached."""
    return categorical_kl(own, peer, direction="reverse", temperature=temperature)


def peer_first_kl(own: Tensor, peer: Tensor, *, temperature: float = 2.0) -> Tensor:
    """The term of deep mutual learning ``T**2 KL(peer || own)``, mean over logits ``(B, C)``; the peer is detached."""
    return categorical_kl(own, peer, temperature=temperature)


def online_loss(
    student: nn.Module, teacher: nn.Module, student_term: Term, teacher_term: Term, *, kd_weight: float = 1.0
) -> Loss:
    """The sum of both networks' losses, each cross-entropy plus a term toward the detached peer.

    Both come from the same forward passes. No gradient of one loss reaches the other network, so that one optimizer
    over both does what two would.

    Args:
        student: The student.
        teacher: The teacher, trained along.
        student_term: ``(own, peer) -> scalar`` of the student.
        teacher_term: The same of the teacher.
        kd_weight: Weight of both terms, lambda in the paper.
    """

    def loss(batch: Batch, epoch: int) -> Tensor:
        own, other = student(batch.x), teacher(batch.x)
        learned = F.cross_entropy(own, batch.targets) + kd_weight * student_term(own, other.detach())
        taught = F.cross_entropy(other, batch.targets) + kd_weight * teacher_term(other, own.detach())
        return learned + taught

    return loss


@dataclass(frozen=True)
class BDKDConfig:
    """The experiment on the digits with noisy training labels.

    Attributes:
        label_noise: Share of wrong training labels.
        teacher_hidden: Widths of the teacher.
        student_hidden: Widths of the student.
        delta: Larger weight of the balance.
        temperature: T.
        kd_weight: Weight of the divergences.
        epochs: Epochs.
        batch_size: Samples per step.
        lr: Learning rate of Adam.
    """

    label_noise: float = 0.1
    teacher_hidden: tuple[int, ...] = (128, 128)
    student_hidden: tuple[int, ...] = (16,)
    delta: float = 2.0
    temperature: float = 2.0
    kd_weight: float = 1.0
    epochs: int = 80
    batch_size: int = 128
    lr: float = 2e-3

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_range("kd_weight", self.kd_weight, 0.0, 1e6)
        check_range("label_noise", self.label_noise, 0.0, 1.0)

    def training(self, seed: int) -> TrainConfig:
        """The training of all arms."""
        order = integer_seed(seed, "order")
        return TrainConfig(self.epochs, self.batch_size, seed=order, optimizer=replace(ADAM, lr=self.lr))


def _arms(config: BDKDConfig) -> dict[str, tuple[Term, Term]]:
    """Arm -> terms of student and teacher."""
    temperature = config.temperature

    def dml(own: Tensor, peer: Tensor) -> Tensor:
        return peer_first_kl(own, peer, temperature=temperature)

    def teacher(own: Tensor, peer: Tensor) -> Tensor:
        return own_first_kl(own, peer, temperature=temperature)

    def student(rule: Rule) -> Term:
        return lambda own, peer: balanced_kl(own, peer, rule=rule, temperature=temperature)

    return {
        "DML": (dml, dml),
        "fixed sum": (student(Fixed()), teacher),
        "BD-KD": (student(Balance(config.delta)), teacher),
        "flipped rule": (student(Balance(config.delta, flipped=True)), teacher),
    }


def run(seed: int, config: BDKDConfig) -> Cell:
    """One cell: the student alone, and with a teacher that learns along, under every rule."""
    train, test = digits_rows(seed, (0.4, 0.6))
    train = with_label_noise(train, config.label_noise, seed)
    alone = train_classifier(_network(config.student_hidden, seed, "student"), train, config.training(seed))
    cell = {"CE": _figures(alone, test)}
    for arm, terms in _arms(config).items():
        student = _network(config.student_hidden, seed, "student")
        teacher = _network(config.teacher_hidden, seed, "teacher")
        loss = online_loss(student, teacher, *terms, kd_weight=config.kd_weight)
        minimize(loss, (student, teacher), train, config.training(seed))
        cell[arm] = _figures(student, test)
    return cell


def _network(hidden: tuple[int, ...], seed: int, role: str) -> nn.Module:
    return seeded(lambda: MLP((PIXELS,), hidden), seed, role)


def _figures(network: nn.Module, data: Split) -> dict[str, float]:
    figures = measure(network, data)
    return {name: figures[name] for name in ("accuracy", "ece", "nll")}


EXPERIMENT = Experiment(
    name="bd_kd",
    title="Balanced divergences in online distillation",
    paper="Amara, Sepahvand, Meyer, Gross, Clark, arXiv 2212.12965",
    claim="Both divergences with a teacher that learns along calibrate the student better than mutual learning.",
    config=BDKDConfig(),
    run=run,
    comparisons=(
        *(
            Comparison(
                "ece",
                student="BD-KD",
                baseline=baseline,
                better="lower",
                gate=-0.01,
                text=f"calibration error below {baseline} by 0.01",
            )
            for baseline in ("DML", "CE")
        ),
        *(
            Comparison(
                "accuracy",
                student="BD-KD",
                baseline=baseline,
                better="higher",
                gate=-0.01,
                text=f"accuracy not below {baseline} by 1 point",
            )
            for baseline in ("DML", "CE")
        ),
        *(
            Comparison(
                "ece",
                student="BD-KD",
                baseline=baseline,
                better="lower",
                required=False,
                text=f"calibration error against the {baseline}",
            )
            for baseline in ("fixed sum", "flipped rule")
        ),
    ),
    notes=(
        "DML has one divergence and BD-KD two, at the same weight each; the fixed sum is the control for that.",
        "This setting is not expected to separate the rule from the fixed sum or from its opposite.",
    ),
)
