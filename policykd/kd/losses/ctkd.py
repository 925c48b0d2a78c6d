"""Curriculum temperature: a temperature that is trained to make distillation harder (Li et al. 2023).

It works on tensors alone: networks, training loops and benchmarks are not its business.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.divergences import Reduction, prepare_pair, prepare_tensor, reduce_loss
from policykd.kd.losses._base import KDLoss
from policykd.kd.losses._function import loss_function
from policykd.kd.options import check_positive
from policykd.kd.shapes import check_logits


@loss_function
def ctkd(
    student: Tensor, teacher: Tensor, temperature: Tensor, *, scale_t2: bool = True, reduction: Reduction = "mean"
) -> Tensor:
    """Match softened distributions at a temperature that is a tensor, with a gradient of its own.

    ``T**2 KL(softmax(z_t / T) || softmax(z_s / T))``, as in `policykd.kd.losses.kd`. Li et al., AAAI 2023.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        temperature: T > 0, one value ``(1,)``.
        scale_t2: Multiply by ``T**2``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, the temperature is not one value above 0, or the reduction is
            unknown.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 1.0, 4.0]])
        >>> ctkd(student, teacher, torch.tensor([2.0]))
        tensor(0.3026)
    """
    student, teacher = prepare_pair(student, teacher, min_dim=2)
    check_logits(student)
    temperature = prepare_tensor("temperature", temperature).to(student.dtype)
    if tuple(temperature.shape) != (1,) or float(temperature.detach()) <= 0:
        raise ValueError(f"temperature must be one value above 0 of shape (1,), got shape {tuple(temperature.shape)}")
    log_s, log_t = F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1)
    values = (log_t.exp() * (log_t - log_s)).sum(-1)
    return reduce_loss(values * temperature**2 if scale_t2 else values, reduction)


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def curriculum(epoch: float, epochs: float = 10.0) -> float:
    """Return the strength of the reversed gradient: half a cosine from 0 to 1 over the first epochs."""
    return 0.5 - 0.5 * math.cos(math.pi * min(1.0, max(0.0, epoch / epochs)))


class CTKD(KDLoss):
    """Curriculum temperature, the global version; the divergence is :func:`ctkd`.

    ``T = lowest + span sigmoid(a)`` with one trained a, as in the authors' code. Its gradient is reversed, so that the
    temperature raises the loss that the student lowers.

    Departures: the curriculum is the caller's, since a loss does not know the epoch: set `strength` to
    ``curriculum(epoch)`` after every epoch; with the default 1 the temperature is adversarial from the start. The
    version with a temperature per sample is left out. The temperature starts at the middle of its range for ``a = 0``;
    the released code starts at ``a = 1``, which is `start`.

    Args:
        lowest: Lowest temperature, above 0.
        span: Width of the range of temperatures.
        start: First value of a.
        strength: Factor of the reversed gradient; 0 keeps the temperature.
        reduction: How the values of shape ``(B,)`` are reduced.
    """

    name = "ctkd"

    def __init__(
        self,
        *,
        lowest: float = 1.0,
        span: float = 20.0,
        start: float = 1.0,
        strength: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        check_positive(lowest=lowest, span=span)
        self.lowest, self.span, self.start, self.strength = lowest, span, start, strength
        self.level = nn.Parameter(torch.full((1,), float(start)))

    @property
    def temperature(self) -> Tensor:
        """The temperature ``(1,)``."""
        return self.lowest + self.span * torch.sigmoid(self.level)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of logits ``(B, C)``; the gradient of the temperature is reversed."""
        level: Tensor = _Reverse.apply(self.level, self.strength)
        temperature = self.lowest + self.span * torch.sigmoid(level)
        return ctkd(student, teacher, temperature, reduction=self.reduction)
