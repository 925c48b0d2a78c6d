"""Forward and reverse KL divergence, weighted sample by sample by the entropies of student and teacher.

Amara, Sepahvand, Meyer, Gross and Clark, BD-KD: Balancing the Divergences for Online Knowledge Distillation
(arXiv 2212.12965). ``F = KL(teacher || student)`` widens an over-confident student, ``R = KL(student || teacher)``
sharpens an under-confident one. With the forward weight alone for the student and ``KL(student || teacher)`` for the
teacher it is deep mutual learning (DML, Zhang et al. 2018).

Departure: only the abstract was readable. The rule ``Balance`` and its delta are a reconstruction from it; ``Fixed``
and ``Soft`` are alternatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from typing_extensions import override

from policykd.divergences import Reduction, categorical_kl, full_precision, reduce_loss
from policykd.errors import check_range


class Rule(Protocol):
    """Weighs forward against reverse divergence, sample by sample."""

    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights ``(B,)`` of forward and reverse KL from the entropies ``(B,)`` of both networks, in nats."""
        ...


@dataclass(frozen=True)
class Balance(Rule):
    """Pulls the student's entropy toward the teacher's by giving the weight ``delta`` to the divergence that does so.

    Attributes:
        delta: At least 1; at 1 both divergences always weigh the same.
        flipped: Give ``delta`` to the other divergence, as a control.
    """

    delta: float = 2.0
    flipped: bool = False

    def __post_init__(self) -> None:
        check_range("delta", self.delta, 1.0, 1e6)

    @override
    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        one, delta = torch.ones_like(student), torch.full_like(student, self.delta)
        forward = torch.where(student < teacher, delta, one)
        reverse = torch.where(student > teacher, delta, one)
        return (reverse, forward) if self.flipped else (forward, reverse)


@dataclass(frozen=True)
class Fixed(Rule):
    """The same weights for all samples.

    Attributes:
        forward: Weight of the forward KL.
        reverse: Weight of the reverse KL.
    """

    forward: float = 1.0
    reverse: float = 1.0

    @override
    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(student, self.forward), torch.full_like(student, self.reverse)


@dataclass(frozen=True)
class Soft(Rule):
    """A smooth balance: ``wF = 2 sigmoid((H_teacher - H_student) / tau)`` and ``wR = 2 - wF``.

    Attributes:
        tau: Entropy gap over which the weights move, nats, above 0.
    """

    tau: float = 0.5

    def __post_init__(self) -> None:
        check_range("tau", self.tau, 1e-9, 1e9, "nats")

    @override
    def __call__(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        forward = 2 * torch.sigmoid((teacher - student) / self.tau)
        return forward, 2 - forward


def entropies(logits: Tensor) -> Tensor:
    """Return the Shannon entropy ``(B,)`` of ``softmax(logits)``, in nats, without gradient."""
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
    """Return the student's term ``T**2 (wF KL(teacher || student) + wR KL(student || teacher))``.

    Entropies are compared at temperature 1 whatever T is, and carry no gradient.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        rule: Gives the weights of both divergences from the entropies.
        temperature: T > 0.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: An input is not a floating-point tensor.
        ValueError: Shapes differ, a value is not finite, or an option is out of range.
    """
    forward = categorical_kl(student, teacher, temperature=temperature, reduction="none")
    reverse = categorical_kl(student, teacher, direction="reverse", temperature=temperature, reduction="none")
    w_forward, w_reverse = rule(entropies(student), entropies(teacher))
    return reduce_loss(w_forward * forward + w_reverse * reverse, reduction)


def own_first_kl(own: Tensor, peer: Tensor, *, temperature: float = 2.0) -> Tensor:
    """Return the teacher's term ``T**2 KL(own || peer)``, the mean over logits ``(B, C)``; the peer is detached."""
    return categorical_kl(own, peer, direction="reverse", temperature=temperature)


def peer_first_kl(own: Tensor, peer: Tensor, *, temperature: float = 2.0) -> Tensor:
    """Return DML's term ``T**2 KL(peer || own)``, the mean over logits ``(B, C)``; the peer is detached."""
    return categorical_kl(own, peer, temperature=temperature)
