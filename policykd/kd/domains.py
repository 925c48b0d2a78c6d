"""Features that do not tell domains apart (persons, devices): maximum mean discrepancy and gradient reversal.

It works on tensors alone: networks and training loops are not its business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from policykd.errors import ConfigError, check_range

MEDIAN_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Factors of the median distance that give the usual widths of kernels."""


def gaussian_kernel(first: Tensor, second: Tensor, widths: Sequence[float]) -> Tensor:
    """Return the mean over widths of ``exp(-|u - v|^2 / (2 width^2))`` for all pairs ``(N, M)``.

    Args:
        first: Features ``(N, D)``.
        second: Features ``(M, D)``.
        widths: Widths of the kernels, each above 0.

    Raises:
        ConfigError: There are no widths, or one is not above 0.
    """
    if not widths or min(widths) <= 0:
        raise ConfigError(f"widths must be at least one number above 0, got {tuple(widths)}")
    squares = (first[:, None, :] - second[None, :, :]).square().sum(2)
    return torch.stack([torch.exp(squares / (-2.0 * width**2)) for width in widths]).mean(0)


@torch.no_grad()
def median_widths(features: Tensor, factors: Sequence[float] = MEDIAN_FACTORS) -> tuple[float, ...]:
    """Return the median distance between different features ``(N, D)``, times each factor; 1 where all are equal."""
    median = float(torch.pdist(features).median()) if len(features) > 1 else 0.0
    return tuple(factor * (median or 1.0) for factor in factors)


def squared_mmd(first: Tensor, second: Tensor, widths: Sequence[float]) -> Tensor:
    """Return the squared maximum mean discrepancy of two samples in its biased form, which is never negative.

    ``mean k(u, u') + mean k(v, v') - 2 mean k(u, v)`` (Gretton et al., JMLR 13, 2012, equation 5).

    Args:
        first: Features ``(N, D)``.
        second: Features ``(M, D)``.
        widths: Widths of :func:`gaussian_kernel`.
    """
    own, other, between = (
        gaussian_kernel(a, b, widths).mean() for a, b in ((first, first), (second, second), (first, second))
    )
    return own + other - 2 * between


def domain_mmd(features: Tensor, domains: Tensor, *, widths: Sequence[float] | None = None, least: int = 2) -> Tensor:
    """Return the mean squared discrepancy over all pairs of domains of a batch; 0 where there is not a pair.

    Args:
        features: Features ``(B, D)``.
        domains: Domain of every sample ``(B,)``.
        widths: Widths of the kernels; None for :func:`median_widths` of the batch, without gradient.
        least: Samples that a domain needs to count.
    """
    check_range("least", least, 1, 1_000_000)
    parts = [features[domains == name] for name in domains.unique()]
    parts = [part for part in parts if len(part) >= least]
    if len(parts) < 2:
        return features.sum() * 0.0
    chosen = median_widths(features) if widths is None else widths
    return torch.stack([squared_mmd(a, b, chosen) for a, b in combinations(parts, 2)]).mean()


class _Reversal(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    @override
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradient, None


def reverse_gradient(x: Tensor, scale: float = 1.0) -> Tensor:
    """Return the tensor unchanged; its gradient is multiplied by ``-scale``.

    Between an encoder and a classifier of domains it makes the encoder raise the loss that the classifier lowers
    (Ganin and Lempitsky, ICML 2015, arXiv 1409.7495).
    """
    result: Tensor = _Reversal.apply(x, scale)
    return result


def domain_ramp(progress: float) -> float:
    """Return ``2 / (1 + exp(-10 p)) - 1``, which rises from 0 to almost 1 over a training (Ganin et al. 2016).

    Args:
        progress: Share of the training that is done, in [0, 1].
    """
    check_range("progress", progress, 0.0, 1.0)
    return 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0
