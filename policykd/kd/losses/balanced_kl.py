"""Forward and reverse divergence, balanced by the entropies of student and teacher (Amara et al. 2022).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from policykd.divergences import Reduction, categorical_kl, reduce_loss
from policykd.errors import check_range
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import Temperature
from policykd.kd.shapes import check_logits


class Rule(Protocol):
    """Weighs forward against reverse divergence, sample by sample."""

    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights of forward and reverse KL ``(B,)`` from entropies ``(B,)`` of student and teacher, in nats."""
        ...


@dataclass(frozen=True)
class Balance:
    """A rule that pulls the student's entropy toward the teacher's: the divergence that does gets the weight ``delta``.

    Attributes:
        delta: At least 1; at 1 both divergences always weigh the same.
        flipped: Give it to the other divergence, as a control.

    Raises:
        ConfigError: ``delta`` is below 1.
    """

    delta: float = 2.0
    flipped: bool = False

    def __post_init__(self) -> None:
        check_range("delta", self.delta, 1.0, 1e6)

    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights, see :class:`Rule`."""
        one, delta = torch.ones_like(student), torch.full_like(student, self.delta)
        forward = torch.where(student < teacher, delta, one)
        reverse = torch.where(student > teacher, delta, one)
        return (reverse, forward) if self.flipped else (forward, reverse)


@dataclass(frozen=True)
class Fixed:
    """A rule of the same weights for all samples.

    Attributes:
        forward: Weight of the forward KL.
        reverse: Weight of the reverse KL.
    """

    forward: float = 1.0
    reverse: float = 1.0

    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights, see :class:`Rule`."""
        return torch.full_like(student, self.forward), torch.full_like(student, self.reverse)


@dataclass(frozen=True)
class Soft:
    """A smooth balance: ``wF = 2 sigmoid((H_teacher - H_student) / tau)`` and ``wR = 2 - wF``.

    Attributes:
        tau: Entropy gap over which the weights move, nats, above 0.

    Raises:
        ConfigError: ``tau`` is not above 0.
    """

    tau: float = 0.5

    def __post_init__(self) -> None:
        check_range("tau", self.tau, 1e-9, 1e9, "nats")

    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights, see :class:`Rule`."""
        forward = 2 * torch.sigmoid((teacher - student) / self.tau)
        return forward, 2 - forward


def entropies(logits: Tensor) -> Tensor:
    """Return the Shannon entropy ``(B,)`` of ``softmax(logits)``, in nats, off the graph."""
    log_p = logits.detach().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


@loss_function
def balanced_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    rule: Rule = Balance(),
    temperature: Temperature = 2.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Match the teacher in both directions of the divergence, weighted for every sample by the entropies of the two.

    ``T**2 (wF KL(teacher || student) + wR KL(student || teacher))``. Amara, Sepahvand, Meyer, Gross, Clark, BD-KD,
    arXiv 2212.12965. The forward divergence widens an over-confident student, the reverse one sharpens one that is
    under-confident.

    Departures: only the abstract was readable; the rule :class:`Balance` is a reconstruction from it, other rules are
    here for comparison. Entropies are compared at temperature 1 whatever T is, and carry no gradient.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        rule: How the weights follow from the entropies.
        temperature: T > 0.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.5, 0.0]])
        >>> balanced_kl(student, teacher, temperature=1.0)
        tensor(1.4922)
    """
    check_logits(student)
    forward = categorical_kl(student, teacher, temperature=temperature, reduction="none")
    reverse = categorical_kl(student, teacher, direction="reverse", temperature=temperature, reduction="none")
    w_forward, w_reverse = rule(entropies(student), entropies(teacher))
    return reduce_loss(w_forward * forward + w_reverse * reverse, reduction)


BalancedKL = loss_module(balanced_kl, "BalancedKL")


def own_first_kl(own: Tensor, peer: Tensor, *, temperature: float = 2.0) -> Tensor:
    """Return the teacher's term ``T**2 KL(own || peer)``, the mean over logits ``(B, C)``; the peer is detached."""
    return categorical_kl(own, peer, direction="reverse", temperature=temperature)


def peer_first_kl(own: Tensor, peer: Tensor, *, temperature: float = 2.0) -> Tensor:
    """Return DML's term ``T**2 KL(peer || own)``, the mean over logits ``(B, C)``; the peer is detached."""
    return categorical_kl(own, peer, temperature=temperature)
