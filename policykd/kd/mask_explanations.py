"""Explanations by masks: the fewest inputs that keep a network's output while the rest is filled in plausibly.

Functions of tensors and ways to fill in what a mask hides; the explained network comes from the caller and is not
changed. Rate and distortion: Heiss, Levie, Resnick, Kutyniok, Bruna (2020, arXiv 2007.00758); Macdonald et al. (arXiv
1905.11092); learned masks: Chang, Creager, Goldenberg, Duvenaud (ICLR 2019, arXiv 1807.08024). Masks are 1 where an
input is kept; they are learned for groups of inputs, such as a patch of an image or a joint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from policykd.errors import ShapeError, check_range
from policykd.relaxed import binary_concrete_logit, logistic_noise

Network = Callable[[Tensor], Tensor]
"""``(B, n) -> (B, m)``."""
LARGEST_LOGIT = 6.0
"""Logits of masks stay within this bound, beyond which a sigmoid no longer learns."""


class Fill(Protocol):
    """A way to draw full inputs that agree with the kept ones."""

    def __call__(self, x: Tensor, mask: Tensor, generator: Generator) -> Tensor:
        """Return inputs ``(B, n)`` for masks ``(B, n)`` of zeros and ones over one input ``(n,)``."""
        ...


@dataclass(frozen=True)
class ConstantFill:
    """Replace what is hidden by fixed values, such as zeros: usually far from any data.

    Attributes:
        value: The values ``(n,)``.
    """

    value: Tensor

    def __call__(self, x: Tensor, mask: Tensor, generator: Generator) -> Tensor:
        """Return the inputs; nothing is drawn."""
        return torch.where(mask > 0.5, x, self.value)


@dataclass(frozen=True)
class IndependentFill:
    """Replace what is hidden by independent Gaussian values with the data's mean and deviation.

    Attributes:
        mean: ``(n,)``.
        deviation: ``(n,)``.
    """

    mean: Tensor
    deviation: Tensor

    def __call__(self, x: Tensor, mask: Tensor, generator: Generator) -> Tensor:
        """Return the inputs."""
        noise = torch.randn(mask.shape, generator=generator, dtype=x.dtype)
        return torch.where(mask > 0.5, x, self.mean + self.deviation * noise)


@dataclass(frozen=True)
class GaussianFill:
    """Draw what is hidden from a Gaussian given what is kept: the in-painter for data of few dimensions.

    A joint draw u is moved by ``C_:K C_KK^-1 (x_K - u_K)`` (Matheron's rule), which gives the exact conditional mean
    and covariance for every mask of a batch at once.

    Attributes:
        mean: ``(n,)``.
        covariance: ``(n, n)``, positive definite.
    """

    mean: Tensor
    covariance: Tensor

    @classmethod
    def fit(cls, data: Tensor) -> GaussianFill:
        """Return the fill of data ``(N, n)``, with the covariance shrunk as Ledoit and Wolf (2004) do."""
        from sklearn.covariance import LedoitWolf

        found = LedoitWolf().fit(data.double().numpy())
        covariance = torch.from_numpy(found.covariance_) + 1e-6 * torch.eye(data.shape[1], dtype=torch.double)
        return cls(data.mean(0), covariance.to(data.dtype))

    def __call__(self, x: Tensor, mask: Tensor, generator: Generator) -> Tensor:
        """Return the inputs; kept entries are exactly those of x."""
        lower = torch.linalg.cholesky(self.covariance)
        drawn = self.mean + torch.randn(mask.shape, generator=generator, dtype=x.dtype) @ lower.T
        kept = mask[:, :, None] * self.covariance * mask[:, None] + torch.diag_embed(1.0 - mask)
        weights = torch.linalg.solve(kept, (mask * (x - drawn))[..., None])[..., 0]
        return torch.where(mask > 0.5, x, drawn + (mask * weights) @ self.covariance)


def check_groups(groups: Tensor) -> int:
    """Return the number of groups of inputs ``(n,)``, numbered from 0 without a gap.

    Raises:
        ShapeError: A number is missing.
    """
    count = int(groups.max()) + 1
    if groups.dim() != 1 or len(torch.unique(groups)) != count or int(groups.min()) != 0:
        raise ShapeError(f"groups must number every input from 0 without a gap, got {groups.tolist()[:20]}")
    return count


def squared_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the summed squared differences of outputs ``(B, m)`` from one output ``(m,)``: ``(B,)``."""
    return (found - wanted).square().sum(-1)


@torch.no_grad()
def distortion(network: Network, x: Tensor, mask: Tensor, fill: Fill, *, draws: int, generator: Generator) -> float:
    """Return the mean squared change of the output when all but the kept inputs are filled in.

    Args:
        network: The explained network.
        x: Input ``(n,)``.
        mask: 1 for kept inputs ``(n,)``.
        fill: How the rest is drawn.
        draws: Number of draws.
        generator: Their source.
    """
    filled = fill(x, mask.expand(draws, -1), generator)
    return float(squared_error(network(filled), network(x[None])[0]).mean())


def relevance(
    network: Network,
    x: Tensor,
    fill: Fill,
    groups: Tensor,
    *,
    weight: float,
    generator: Generator,
    steps: int = 400,
    draws: int = 64,
    rate: float = 0.05,
    temperature: float = 0.1,
    scale: float = 1.0,
) -> Tensor:
    """Return the probability of every group to be kept ``(G,)`` that minimizes distortion plus ``weight`` times size.

    Masks are binary Concrete; what is filled in follows the rounded mask and gets no gradient.

    Args:
        network: The explained network, differentiable in its input.
        x: Input ``(n,)``.
        fill: How hidden inputs are drawn.
        groups: Group of every input ``(n,)``.
        weight: lambda, the price of a group in units of ``scale``.
        generator: Source of masks and fills.
        steps: Adam steps.
        draws: Masks per step.
        rate: Learning rate.
        temperature: Temperature of the masks.
        scale: Distortion that counts as 1, for example that of hiding everything.

    Raises:
        ConfigError: An option is out of range.
        ShapeError: The groups do not fit.
    """
    check_range("weight", weight, 0.0, 1e9)
    check_range("scale", scale, 1e-30, 1e30)
    if groups.shape != x.shape:
        raise ShapeError(f"groups {tuple(groups.shape)} and input {tuple(x.shape)} must be (n,)")
    logits = torch.zeros(check_groups(groups), dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=rate)
    with torch.no_grad():
        wanted = network(x[None])[0]
    for _ in range(steps):
        noise = logistic_noise((draws, len(logits)), generator=generator, dtype=x.dtype)
        with torch.enable_grad():
            soft = torch.sigmoid(binary_concrete_logit(logits, noise, temperature=temperature))[:, groups]
            filled = fill(x, (soft.detach() > 0.5).to(x.dtype), generator)
            error = squared_error(network(x * soft + (1.0 - soft) * filled), wanted).mean()
            loss = error / scale + weight * torch.sigmoid(logits).sum()
        (logits.grad,) = torch.autograd.grad(loss, logits)  # the explained network gets no gradient
        optimizer.step()
        with torch.no_grad():
            logits.clamp_(-LARGEST_LOGIT, LARGEST_LOGIT)
    return torch.sigmoid(logits.detach())


def gradient_relevance(network: Network, x: Tensor, mean: Tensor, groups: Tensor) -> Tensor:
    """Return ``sum ||J_i (x_i - mean_i)||**2`` per group ``(G,)``: gradient times input, over all outputs.

    Args:
        network: The explained network.
        x: Input ``(n,)``.
        mean: What an input that says nothing would be ``(n,)``.
        groups: Group of every input ``(n,)``.
    """
    jacobian = torch.autograd.functional.jacobian(lambda row: network(row[None])[0], x)
    each = (jacobian * (x - mean)).square().sum(0)
    return torch.zeros(check_groups(groups), dtype=x.dtype).index_add_(0, groups, each)


def largest_mask(relevances: Tensor, groups: Tensor, count: int) -> Tensor:
    """Return the mask ``(n,)`` that keeps the inputs of the most relevant groups, ties in their order."""
    chosen = torch.from_numpy(np.argsort(-relevances.numpy(), kind="stable")[:count].copy())
    kept = torch.zeros(len(relevances), dtype=relevances.dtype)
    kept[chosen] = 1.0
    return kept[groups]


@dataclass(frozen=True)
class NeighborFill:
    """Fill in from those real inputs whose kept entries are the nearest: always in distribution, for judging masks.

    Attributes:
        data: Real inputs ``(N, n)``, none of which was explained.
        neighbors: Number of the nearest that are used.
    """

    data: Tensor
    neighbors: int = 20

    def __call__(self, x: Tensor, mask: Tensor, generator: Generator) -> Tensor:
        """Return the inputs; the neighbors are drawn uniformly."""
        distance = mask @ (self.data - x).square().T
        near = distance.topk(min(self.neighbors, len(self.data)), largest=False).indices
        chosen = near.gather(1, torch.randint(near.shape[1], (len(mask), 1), generator=generator))[:, 0]
        return torch.where(mask > 0.5, x, self.data[chosen])
