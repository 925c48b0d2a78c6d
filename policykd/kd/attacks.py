"""White-box attacks on classifiers: FGSM and PGD within a maximum norm, to measure how robust a network is.

They change inputs alone: the network's weights, gradients and modes stay as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.errors import ConfigError, check_range
from policykd.kd.training.evaluate import evaluating

Range = tuple[float, float]
"""Lowest and highest valid input."""


def input_gradient(network: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """Return the gradient of the summed cross-entropy with respect to the inputs, of a network in eval mode.

    Args:
        network: Maps inputs ``(B, ...)`` to logits ``(B, C)``.
        x: Inputs.
        target: Labels ``(B,)``.
    """
    with torch.enable_grad(), evaluating(network):
        moved = x.detach().clone().requires_grad_()
        loss = F.cross_entropy(network(moved), target, reduction="sum")
        return torch.autograd.grad(loss, moved)[0]


def fgsm(network: nn.Module, x: Tensor, target: Tensor, *, epsilon: float, valid: Range = (0.0, 1.0)) -> Tensor:
    """Move every input by epsilon to the side on which the loss rises: ``clip(x + epsilon sign(gradient))``.

    Goodfellow, Shlens, Szegedy, Explaining and Harnessing Adversarial Examples (ICLR 2015, arXiv 1412.6572).

    Args:
        network: Maps inputs to logits.
        x: Inputs ``(B, ...)``.
        target: Labels ``(B,)``.
        epsilon: Largest change of an input, at least 0.
        valid: Lowest and highest valid input.

    Raises:
        ConfigError: Epsilon or the range is out of order.
    """
    _check(epsilon, valid)
    return (x + epsilon * input_gradient(network, x, target).sign()).clamp(*valid).detach()


def pgd(
    network: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    epsilon: float,
    step: float,
    steps: int = 10,
    valid: Range = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Repeat steps of FGSM and project back to within epsilon of the input.

    Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks (ICLR 2018, arXiv 1706.06083).

    Args:
        network: Maps inputs to logits.
        x: Inputs ``(B, ...)``.
        target: Labels ``(B,)``.
        epsilon: Largest change of an input, at least 0.
        step: Length of a step; one step of at least epsilon is FGSM.
        steps: Number of steps.
        valid: Lowest and highest valid input.
        generator: Draws a uniform start within epsilon; None starts at the inputs.

    Raises:
        ConfigError: An option is out of range.
    """
    _check(epsilon, valid)
    check_range("steps", steps, 1, 100_000)
    check_range("step", step, 0.0, 1e6)
    low, high = (x - epsilon).clamp(*valid), (x + epsilon).clamp(*valid)
    found = x.detach().clone()
    if generator is not None:
        start = torch.rand(x.shape, generator=generator, dtype=x.dtype)
        found = low + start.to(x.device) * (high - low)
    for _ in range(steps):
        found = found + step * input_gradient(network, found, target).sign()
        found = torch.minimum(torch.maximum(found, low), high)
    return found.detach()


def _check(epsilon: float, valid: Range) -> None:
    check_range("epsilon", epsilon, 0.0, 1e6)
    if not valid[0] < valid[1]:
        raise ConfigError(f"valid is {valid}; give the lowest and the highest valid input")
