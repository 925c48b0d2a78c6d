"""Divergences between the predictions of a student and its teacher: the numeric core of all distillation.

Supervised KD (class logits) and policy distillation (Gaussian actions) use the same functions, so a direction, a
temperature or a reduction means the same in both. Conventions:

* Student first, teacher second, options by keyword. The teacher is always detached here.
* The last dimension is the event (classes, action components), all others are batch. Every function first computes one
  value per sample, of shape ``(...)``, and `reduction` then acts on those values only.
* The arithmetic runs in float32 at least, with autocast off; float64 inputs stay float64.
* The factor ``T**2`` is an explicit option (`scale_t2`): applied silently, it would tie the weight of the term to the
  temperature.
* Wrong tensors raise `ValueError` or `TypeError`, wrong options `ConfigError` (a `ValueError`). Messages name the given
  value and the valid ones. On a device, looking at the values makes the host wait; ``check=False`` leaves it out.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.errors import ConfigError
from policykd.numerics import (
    Reduction,
    check_temperature,
    full_precision,
    prepare_pair,
    prepare_tensor,
    reduce_loss,
)

Direction = Literal["forward", "reverse"]
Gaussian: TypeAlias = tuple[Tensor, Tensor]
__all__ = [
    "Direction",
    "Gaussian",
    "Reduction",
    "categorical_jsd",
    "categorical_kl",
    "check_temperature",
    "full_precision",
    "gaussian_jsd",
    "gaussian_kl",
    "gaussian_nll",
    "huber",
    "mse",
    "prepare_pair",
    "prepare_tensor",
    "reduce_loss",
]


def _check_direction(direction: str) -> None:
    if direction not in get_args(Direction):
        raise ConfigError(f"direction must be forward (teacher first) or reverse (student first), got {direction!r}")


def _check_beta(beta: float) -> None:
    if not 0.0 <= beta <= 1.0:
        raise ConfigError(f"beta must be in [0, 1] (0 is the forward KL, 1 the reverse KL), got {beta!r}")


def _kl_from_logs(first: Tensor, second: Tensor) -> Tensor:
    """Return KL(first || second) per sample from log-probabilities of shape ``(..., C)``."""
    return F.kl_div(second, first, reduction="none", log_target=True).sum(-1)


@full_precision
def categorical_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    direction: Direction = "forward",
    temperature: float = 1.0,
    scale_t2: bool = True,
    reduction: Reduction = "batchmean",
    check: bool = True,
) -> Tensor:
    """Return the KL divergence between two categorical distributions given by logits of shape ``(..., C)``.

    ``forward`` is ``KL(teacher || student)``, which is mode-covering; ``reverse`` is ``KL(student || teacher)``, which
    is mode-seeking. Both use ``softmax(z / T)`` and are multiplied by ``T**2`` if `scale_t2`.

    Args:
        student: Student logits.
        teacher: Teacher logits.
        direction: ``forward`` or ``reverse``.
        temperature: T > 0, the same for both.
        scale_t2: Multiply by ``T**2``, which keeps the gradient's scale when T changes.
        reduction: Reduction of the values of shape ``(...)``.
        check: Look for values that are not finite, for which the host waits for a device.

    Raises:
        TypeError: if an input is not a floating-point tensor.
        ValueError: if shapes differ, a value is not finite, or an option is out of range.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 1.0, 4.0]])
        >>> categorical_kl(student, teacher, temperature=2.0)
        tensor(0.3026)
    """
    _check_direction(direction)
    check_temperature(temperature)
    student, teacher = prepare_pair(student, teacher, check=check)
    log_s, log_t = F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1)
    values = _kl_from_logs(log_t, log_s) if direction == "forward" else _kl_from_logs(log_s, log_t)
    return reduce_loss(values * temperature**2 if scale_t2 else values, reduction)


@full_precision
def categorical_jsd(
    student: Tensor,
    teacher: Tensor,
    *,
    beta: float = 0.5,
    temperature: float = 1.0,
    scale_t2: bool = True,
    normalize: bool = False,
    reduction: Reduction = "batchmean",
    check: bool = True,
) -> Tensor:
    """Return the generalized Jensen-Shannon divergence of two categorical distributions, logits of shape ``(..., C)``.

    ``beta KL(p_t || m) + (1 - beta) KL(p_s || m)`` with ``m = beta p_t + (1 - beta) p_s`` (Agarwal et al. 2024, GKD).
    The ends are *defined* as the forward (``beta = 0``) and the reverse KL (``beta = 1``). This makes a jump, because
    the expression itself vanishes like ``beta`` there. With `normalize` it is divided by ``beta (1 - beta)`` and is
    continuous in beta over the closed interval.

    Args:
        student: Student logits.
        teacher: Teacher logits.
        beta: Weight of the teacher in the mixture, in [0, 1].
        temperature: T > 0.
        scale_t2: Multiply by ``T**2``.
        normalize: Divide by ``beta (1 - beta)`` inside the interval.
        reduction: Reduction of the values of shape ``(...)``.
        check: Look for values that are not finite, for which the host waits for a device.

    Raises:
        TypeError: As `categorical_kl`.
        ValueError: As `categorical_kl`.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 1.0, 4.0]])
        >>> categorical_jsd(student, teacher, beta=0.5)
        tensor(0.0457)
    """
    _check_beta(beta)
    if beta in (0.0, 1.0):
        end: Direction = "forward" if beta == 0.0 else "reverse"
        return categorical_kl(
            student,
            teacher,
            direction=end,
            temperature=temperature,
            scale_t2=scale_t2,
            reduction=reduction,
            check=check,
        )
    check_temperature(temperature)
    student, teacher = prepare_pair(student, teacher, check=check)
    log_s, log_t = F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1)
    log_m = torch.logaddexp(log_t + math.log(beta), log_s + math.log1p(-beta))
    values = beta * _kl_from_logs(log_t, log_m) + (1.0 - beta) * _kl_from_logs(log_s, log_m)
    factor = (temperature**2 if scale_t2 else 1.0) / (beta * (1.0 - beta) if normalize else 1.0)
    return reduce_loss(values * factor, reduction)


def _prepare_gaussians(
    student: Gaussian, teacher: Gaussian, check: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Check two (mean, log_std) pairs and expand each log_std to the shape of its mean."""
    for name, pair in (("student", student), ("teacher", teacher)):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"{name} must be a pair (mean, log_std), got a {type(pair).__name__}")
    mean_s, mean_t = prepare_pair(student[0], teacher[0], what="mean", check=check)
    logs = []
    for name, log_std in (("student log_std", student[1]), ("teacher log_std", teacher[1].detach())):
        promoted = prepare_tensor(name, log_std, min_dim=0, check=check).to(mean_s.dtype)
        try:
            logs.append(promoted.expand_as(mean_s))
        except RuntimeError as error:
            shapes = f"got {tuple(log_std.shape)} for a mean of {tuple(mean_s.shape)}"
            raise ValueError(f"{name} must broadcast to its mean, {shapes}") from error
    return mean_s, logs[0], mean_t, logs[1]


def _gaussian_kl(mean_p: Tensor, log_p: Tensor, mean_q: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(P || Q) of diagonal Gaussians, summed over the last dimension."""
    ratio = torch.exp(2.0 * (log_p - log_q))
    distance = (mean_p - mean_q).square() * torch.exp(-2.0 * log_q)
    return (log_q - log_p + 0.5 * (ratio + distance - 1.0)).sum(-1)


@full_precision
def gaussian_kl(
    student: Gaussian,
    teacher: Gaussian,
    *,
    direction: Direction = "forward",
    reduction: Reduction = "batchmean",
    check: bool = True,
) -> Tensor:
    """Return the KL divergence between diagonal Gaussians ``(mean, log_std)``, summed over the last dimension.

    ``KL(P || Q) = sum_a log(s_Q / s_P) + (s_P**2 + (m_P - m_Q)**2) / (2 s_Q**2) - 1/2``. ``forward`` has P = teacher
    and Q = student (mean-seeking; the teacher's spread matters), ``reverse`` the opposite (mode-seeking).

    Args:
        student: Mean ``(..., A)`` and log standard deviation, broadcastable to the mean.
        teacher: Mean and log standard deviation of the teacher.
        direction: ``forward`` or ``reverse``.
        reduction: Reduction of the values of shape ``(...)``.
        check: Look for values that are not finite, for which the host waits for a device.

    Raises:
        TypeError: if an argument is not a pair of floating-point tensors.
        ValueError: if shapes differ, a value is not finite, or an option is unknown.

    Example:
        >>> import torch
        >>> student, teacher = (torch.zeros(1, 2), torch.zeros(2)), (torch.ones(1, 2), torch.zeros(2))
        >>> gaussian_kl(student, teacher)
        tensor(1.)
    """
    _check_direction(direction)
    mean_s, log_s, mean_t, log_t = _prepare_gaussians(student, teacher, check)
    forward = direction == "forward"
    values = _gaussian_kl(mean_t, log_t, mean_s, log_s) if forward else _gaussian_kl(mean_s, log_s, mean_t, log_t)
    return reduce_loss(values, reduction)


@full_precision
def gaussian_jsd(
    student: Gaussian,
    teacher: Gaussian,
    *,
    beta: float = 0.5,
    normalize: bool = False,
    reduction: Reduction = "batchmean",
    check: bool = True,
) -> Tensor:
    """Return the geometric Jensen-Shannon divergence of diagonal Gaussians, summed over the last dimension.

    A mixture of two Gaussians is not a Gaussian, and the ordinary divergence has no closed form. This is the
    *geometric* divergence (Nielsen 2019): the middle distribution is ``G ~ T**beta S**(1 - beta)``, a Gaussian of
    precision ``beta / s_T**2 + (1 - beta) / s_S**2``, and the value is ``beta KL(T || G) + (1 - beta) KL(S || G)``.
    Unlike the arithmetic divergence it is not bounded. The ends and `normalize` are as in `categorical_jsd`.

    Args:
        student: Mean ``(..., A)`` and log standard deviation, broadcastable to the mean.
        teacher: Mean and log standard deviation of the teacher.
        beta: Weight of the teacher in the middle, in [0, 1]; 0 is the forward KL, 1 the reverse KL.
        normalize: Divide by ``beta (1 - beta)`` inside the interval.
        reduction: Reduction of the values of shape ``(...)``.
        check: Look for values that are not finite, for which the host waits for a device.

    Raises:
        TypeError: As `gaussian_kl`.
        ValueError: As `gaussian_kl`.

    Example:
        >>> import torch
        >>> student, teacher = (torch.zeros(1, 2), torch.zeros(2)), (torch.ones(1, 2), torch.zeros(2))
        >>> gaussian_jsd(student, teacher)
        tensor(0.2500)
    """
    _check_beta(beta)
    if beta in (0.0, 1.0):
        end: Direction = "forward" if beta == 0.0 else "reverse"
        return gaussian_kl(student, teacher, direction=end, reduction=reduction, check=check)
    mean_s, log_s, mean_t, log_t = _prepare_gaussians(student, teacher, check)
    # Log-space: log precision of the middle, and the share of the teacher in it.
    log_wt, log_ws = math.log(beta) - 2.0 * log_t, math.log1p(-beta) - 2.0 * log_s
    log_g = -0.5 * torch.logaddexp(log_wt, log_ws)
    mean_g = mean_s + torch.sigmoid(log_wt - log_ws) * (mean_t - mean_s)
    from_teacher, from_student = (_gaussian_kl(m, log, mean_g, log_g) for m, log in ((mean_t, log_t), (mean_s, log_s)))
    values = beta * from_teacher + (1.0 - beta) * from_student
    return reduce_loss(values / (beta * (1.0 - beta)) if normalize else values, reduction)


@full_precision
def gaussian_nll(
    student: Gaussian,
    action: Tensor,
    *,
    min_std: float,
    max_std: float,
    reduction: Reduction = "batchmean",
    check: bool = True,
) -> Tensor:
    """Return the negative log-likelihood of an action under the student's diagonal Gaussian, summed over components.

    ``sum_a log s + (x - m)**2 / (2 s**2) + log(2 pi) / 2`` with ``s`` clamped to ``[min_std, max_std]``. Without the
    bounds, ``s`` would follow the error toward 0 and the gradients would grow like ``1 / s**2``.

    Args:
        student: Mean ``(..., A)`` and log standard deviation, broadcastable to the mean.
        action: Action of the teacher, ``(..., A)``.
        min_std: Smallest standard deviation, above 0.
        max_std: Largest standard deviation.
        reduction: Reduction of the values of shape ``(...)``.
        check: Look for values that are not finite, for which the host waits for a device.

    Raises:
        TypeError: As `gaussian_kl`.
        ValueError: As `gaussian_kl`; and unless ``0 < min_std <= max_std``.

    Example:
        >>> import torch
        >>> student, action = (torch.zeros(1, 2), torch.zeros(2)), torch.ones(1, 2)
        >>> gaussian_nll(student, action, min_std=0.1, max_std=2.0)
        tensor(2.8379)
    """
    if not 0.0 < min_std <= max_std:
        raise ConfigError(f"bounds must be 0 < min_std <= max_std, got min_std {min_std!r} and max_std {max_std!r}")
    mean, log_std, action, _ = _prepare_gaussians(student, (action, torch.zeros_like(action)), check)
    log_std = log_std.clamp(math.log(min_std), math.log(max_std))
    scaled = (action - mean) * torch.exp(-log_std)
    return reduce_loss((log_std + 0.5 * (scaled.square() + math.log(2.0 * math.pi))).sum(-1), reduction)


@full_precision
def mse(student: Tensor, teacher: Tensor, *, reduction: Reduction = "mean", check: bool = True) -> Tensor:
    """Return the squared error, averaged over the last dimension: ``mean_a (s_a - t_a)**2`` for shape ``(..., A)``.

    Raises:
        TypeError: if an input is not a floating-point tensor.
        ValueError: if shapes differ, a value is not finite, or the reduction is unknown.

    Example:
        >>> import torch
        >>> mse(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.0]]))
        tensor(5.)
    """
    student, teacher = prepare_pair(student, teacher, what="values", check=check)
    return reduce_loss((student - teacher).square().mean(-1), reduction)


@full_precision
def huber(
    student: Tensor, teacher: Tensor, *, delta: float = 1.0, reduction: Reduction = "mean", check: bool = True
) -> Tensor:
    """Return the Huber error, averaged over the last dimension.

    It is ``e**2 / 2`` for ``|e|`` up to `delta` and ``delta (|e| - delta / 2)`` beyond.

    Raises:
        TypeError: As `mse`.
        ValueError: As `mse`; and unless `delta` is above 0.

    Example:
        >>> import torch
        >>> huber(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.0]]))
        tensor(1.5000)
    """
    if not (delta > 0 and math.isfinite(delta)):
        raise ConfigError(f"delta must be finite and above 0, got {delta!r}")
    student, teacher = prepare_pair(student, teacher, what="values", check=check)
    return reduce_loss(F.huber_loss(student, teacher, delta=delta, reduction="none").mean(-1), reduction)
