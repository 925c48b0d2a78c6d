"""Relaxed distributions: Concrete, binary Concrete, hard Concrete and straight-through samples, with their densities.

A policy's choice, a gate or a mask becomes differentiable here; everything is elementwise arithmetic on tensors that
the caller owns. Maddison, Mnih, Teh, The Concrete Distribution (ICLR 2017, arXiv 1611.00712); Jang, Gu, Poole,
Gumbel-Softmax (ICLR 2017, arXiv 1611.01144); hard Concrete: Louizos, Welling, Kingma (ICLR 2018, arXiv 1712.01312);
noise of another scale ("adaptive"): Deng, Luo, Zhu, Zhang (arXiv 1911.09804). Conventions:

* Log-weights ``log alpha`` have the shape ``(..., K)``; any real numbers, not normalized. Temperatures and noise scales
  are numbers, or tensors of the batch shape ``(...)``: never ``(..., 1)``, which would broadcast to another shape.
* Samples of the simplex are returned as logarithms: at low temperatures their entries underflow, the logarithms do not.
* Noise is an argument, so that two arms can share it; :func:`gumbel_noise` and :func:`logistic_noise` draw it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from policykd.errors import ShapeError, check_range
from policykd.numerics import check_temperature

__all__ = [
    "Annealing",
    "HardConcrete",
    "binary_concrete_log_density",
    "binary_concrete_logit",
    "binary_concrete_survival",
    "concrete_log_density",
    "concrete_log_sample",
    "exp_concrete_log_density",
    "gumbel_noise",
    "logistic_noise",
    "straight_through",
]


@dataclass(frozen=True)
class Annealing:
    """A temperature that falls exponentially to a lowest value, ``max(low, high exp(-rate step))``: a schedule.

    Attributes:
        high: Temperature at step 0.
        low: Lowest temperature.
        rate: Decay per step.

    Raises:
        ConfigError: A value is out of range.
    """

    high: float = 1.0
    low: float = 0.5
    rate: float = 1e-4

    def __post_init__(self) -> None:
        check_range("low", self.low, 1e-6, 1e6)
        check_range("high", self.high, self.low, 1e6)
        check_range("rate", self.rate, 0.0, 1e6)

    def __call__(self, step: float, total: float | None = None) -> float:
        """Return the temperature at a step; the length of the run is not read."""
        return max(self.low, self.high * math.exp(-self.rate * step))


def gumbel_noise(shape: tuple[int, ...], *, generator: Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return independent Gumbel(0, 1) noise of a shape: ``-log E`` of exponential E."""
    draws = torch.empty(shape, dtype=dtype).exponential_(generator=generator)
    return -draws.clamp_min(torch.finfo(dtype).tiny).log()


def logistic_noise(shape: tuple[int, ...], *, generator: Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return independent logistic noise of a shape: the difference of two Gumbel draws."""
    return gumbel_noise(shape, generator=generator, dtype=dtype) - gumbel_noise(shape, generator=generator, dtype=dtype)


def concrete_log_sample(
    log_weights: Tensor, noise: Tensor, *, temperature: float | Tensor, noise_scale: float | Tensor = 1.0
) -> Tensor:
    """Return ``log softmax((log alpha + beta g) / lambda)``, the logarithm of a Concrete sample.

    The largest entry is a draw of the categorical distribution ``softmax(log alpha / beta)`` at every temperature.

    Args:
        log_weights: ``(..., K)``.
        noise: Gumbel noise whose shape broadcasts with that of the log-weights, for example ``(S, ..., K)``.
        temperature: lambda > 0.
        noise_scale: beta > 0; 1 is the ordinary Concrete distribution, 0 in the limit its noise-free softmax.

    Raises:
        ConfigError: The temperature is out of range.
        ShapeError: Temperature or scale are not of the batch shape.
    """
    scale, heat = _per_sample("noise_scale", noise_scale, log_weights), _per_sample("temperature", temperature, noise)
    return F.log_softmax((log_weights + scale * noise) / heat, -1)


def exp_concrete_log_density(
    log_sample: Tensor, log_weights: Tensor, *, temperature: float | Tensor, noise_scale: float | Tensor = 1.0
) -> Tensor:
    """Return the log-density ``(...)`` of a log-sample ``(..., K)``, in the space of logarithms (ExpConcrete).

    ``log (K-1)! + (K-1) log t + sum_k s_k - K logsumexp_k s_k`` with ``t = lambda / beta`` and
    ``s = log alpha / beta - t y``. A KL divergence between two Concrete distributions is the mean difference of their
    log-densities here, and depends on lambda only if theirs differ.

    Args:
        log_sample: y with ``logsumexp(y) = 0``, as :func:`concrete_log_sample` returns it.
        log_weights: ``(..., K)``.
        temperature: lambda > 0.
        noise_scale: beta > 0.

    Raises:
        ConfigError: The temperature is out of range.
        ShapeError: Temperature or scale are not of the batch shape, or K differs.
    """
    if log_sample.shape[-1] != log_weights.shape[-1]:
        raise ShapeError(f"log_sample has {log_sample.shape[-1]} outcomes, log_weights has {log_weights.shape[-1]}")
    scale = _per_sample("noise_scale", noise_scale, log_weights)
    heat = _per_sample("temperature", temperature, log_sample) / scale
    scores = log_weights / scale - heat * log_sample
    count = log_sample.shape[-1]
    heat_part = (count - 1) * torch.as_tensor(heat, dtype=scores.dtype).log()
    if heat_part.dim():
        heat_part = heat_part.squeeze(-1)
    return math.lgamma(count) + heat_part + scores.sum(-1) - count * scores.logsumexp(-1)


def concrete_log_density(
    sample: Tensor, log_weights: Tensor, *, temperature: float | Tensor, noise_scale: float | Tensor = 1.0
) -> Tensor:
    """Return the log-density ``(...)`` of a point of the simplex ``(..., K)``; see :func:`exp_concrete_log_density`.

    It is the log-density of the logarithms less their sum. Where an entry is 0 it is infinite or not a number.
    """
    logs = sample.log()
    return exp_concrete_log_density(logs, log_weights, temperature=temperature, noise_scale=noise_scale) - logs.sum(-1)


def straight_through(soft: Tensor) -> Tensor:
    """Return one-hot vectors of the largest entries ``(..., K)`` whose gradient is that of ``soft``: a biased one."""
    hard = F.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft)
    return hard + (soft - soft.detach())


def binary_concrete_logit(logits: Tensor, noise: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Return ``v = (l + L) / lambda``; ``sigmoid(v)`` is a binary Concrete sample, ``v > 0`` a Bernoulli draw.

    Args:
        logits: l = log alpha of any shape; the probability of ``v > 0`` is ``sigmoid(l)`` at every temperature.
        noise: Logistic noise L whose shape broadcasts with that of the logits.
        temperature: lambda > 0, a number or a tensor that broadcasts with the logits.

    Raises:
        ConfigError: The temperature is out of range.
    """
    return (logits + noise) / _heat(temperature)


def binary_concrete_log_density(value: Tensor, logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Return the log-density of ``v = logit x``: ``log lambda + d - 2 softplus(d)`` with ``d = l - lambda v``.

    The density of x itself is larger by the factor ``1 / (x (1 - x))``.

    Raises:
        ConfigError: The temperature is out of range.
    """
    heat = torch.as_tensor(_heat(temperature), dtype=value.dtype)
    difference = logits - heat * value
    return heat.log() + difference - 2.0 * F.softplus(difference)


def binary_concrete_survival(value: Tensor, logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Return ``P(logit X > v) = sigmoid(l - lambda v)``."""
    return torch.sigmoid(logits - _heat(temperature) * value)


@dataclass(frozen=True)
class HardConcrete:
    """A binary Concrete distribution that is stretched beyond [0, 1] and clipped, so that 0 and 1 have probability.

    Attributes:
        temperature: lambda.
        low: Lower end of the stretch, below 0.
        high: Upper end, above 1.

    Raises:
        ConfigError: A value is out of range.
    """

    temperature: float = 2.0 / 3.0
    low: float = -0.1
    high: float = 1.1

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_range("low", self.low, -1e6, -1e-9)
        check_range("high", self.high, 1.0 + 1e-9, 1e6)

    def sample(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Return gates in [0, 1] for logits and logistic noise."""
        soft = torch.sigmoid(binary_concrete_logit(logits, noise, temperature=self.temperature))
        return (soft * (self.high - self.low) + self.low).clamp(0.0, 1.0)

    def positive(self, logits: Tensor) -> Tensor:
        """Return the probability that a gate is above 0: the expected L0 norm is its sum."""
        return torch.sigmoid(logits - self.temperature * math.log(-self.low / self.high))


def _heat(temperature: float | Tensor) -> float | Tensor:
    if isinstance(temperature, Tensor):
        check_temperature(float(temperature.detach().min()))
        return temperature
    return check_temperature(temperature)


def _per_sample(name: str, value: float | Tensor, like: Tensor) -> float | Tensor:
    """Return a number, or a tensor of the batch shape with a last dimension of one."""
    _heat(value)
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    batch = tuple(like.shape[:-1])
    if tuple(value.shape) != batch[len(batch) - value.dim() :] or value.dim() > len(batch):
        raise ShapeError(
            f"{name} has the shape {tuple(value.shape)}; it must be a number or of the batch shape {batch}"
        )
    return value[..., None]
