"""Distillation by the alpha-beta divergence (Wang et al. 2025; the divergence: Cichocki et al. 2011)."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from policykd.divergences import Reduction, prepare_pair, reduce_loss
from policykd.errors import ConfigError
from policykd.kd.losses._function import loss_function, loss_module
from policykd.kd.options import Rule, Temperature
from policykd.kd.shapes import check_logits


def check_exponent(name: str, value: float) -> None:
    """Raise ConfigError unless the exponent is at least 0 and finite: smaller ones diverge at rare classes."""
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{name} must be at least 0 and finite, got {value!r}")


Exponent = Annotated[float, Rule(check_exponent)]


def _one_sided(log_p: Tensor, log_q: Tensor, power: float) -> Tensor:
    """The limit for one exponent 0: ``sum_c [p^a (log p^a - log q^a) - p^a + q^a] / a**2``."""
    p, q = (power * log_p).exp(), (power * log_q).exp()
    return (p * power * (log_p - log_q) - p + q).sum(-1) / power**2


@loss_function
def alpha_beta(
    student: Tensor,
    teacher: Tensor,
    *,
    alpha: Exponent = 0.8,
    beta: Exponent = 0.2,
    temperature: Temperature = 1.0,
    scale_t2: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Choose how strongly a divergence weighs hard and rare classes.

    ``T**2 sum_c [p^(a+b) / (b (a + b)) + q^(a+b) / (a (a + b)) - p^a q^b / (a b)]`` with p of the teacher and q of
    the student, softened. Wang et al., ICML 2025, as in the authors' code; Cichocki, Cruces, Amari, Entropy 2011.

    ``alpha = 1, beta = 0`` is KL(p || q), ``alpha = 0, beta = 1`` is KL(q || p), ``alpha = beta = 1`` half the squared
    distance. An exponent of 0 takes the analytic limit.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``, detached here.
        alpha: Exponent of the teacher's probabilities, at least 0.
        beta: Exponent of the student's probabilities, at least 0; not both are 0.
        temperature: T > 0.
        scale_t2: Multiply by ``T**2``.
        reduction: How the values of shape ``(B,)`` are reduced.

    Raises:
        TypeError: an input is not a floating-point tensor.
        ValueError: shapes differ, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 1.0, 4.0]])
        >>> alpha_beta(student, teacher, alpha=1.0, beta=1.0)
        tensor(0.0368)
    """
    student, teacher = prepare_pair(student, teacher, min_dim=2)
    check_logits(student)
    if alpha + beta == 0:
        raise ConfigError(f"alpha and beta must not both be 0, got {alpha!r} and {beta!r}")
    log_p, log_q = (F.log_softmax(z / temperature, -1) for z in (teacher, student))
    if beta == 0:
        values = _one_sided(log_p, log_q, alpha)
    elif alpha == 0:
        values = _one_sided(log_q, log_p, beta)
    else:
        both = alpha + beta
        own = (both * log_p).exp() / (beta * both) + (both * log_q).exp() / (alpha * both)
        values = (own - (alpha * log_p + beta * log_q).exp() / (alpha * beta)).sum(-1)
    return reduce_loss(values * temperature**2 if scale_t2 else values, reduction)


AlphaBeta = loss_module(alpha_beta, "AlphaBeta")
