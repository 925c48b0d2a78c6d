"""Optimization through an optimization: gradients of an outer loss with respect to what an inner descent was given.

Networks are functions of a dictionary of parameters (``torch.func.functional_call``); nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.func import grad, vjp

Tensors: TypeAlias = dict[str, Tensor]
InnerLoss: TypeAlias = Callable[[Tensors, Tensors, int], Tensor]
"""``(parameters, inputs, step from 0) -> scalar``; twice differentiable almost everywhere."""
OuterLoss: TypeAlias = Callable[[Tensors], Tensor]
"""``parameters -> scalar``."""


def descend(inner: InnerLoss, parameters: Tensors, inputs: Tensors, rates: Tensor) -> Tensors:
    """Return the parameters after plain gradient descent, one step per rate.

    ``p <- p - rate_k grad_p inner(p, inputs, k)``. With gradients on, the graph of all steps is kept: the result can be
    differentiated with respect to inputs, rates and first parameters.

    Args:
        inner: The inner loss.
        parameters: First parameters.
        inputs: What the loss also reads, such as distilled data or weights of samples.
        rates: Rates ``(T,)``.
    """
    for step, rate in enumerate(rates):
        parameters = _step(inner, parameters, inputs, rate, step)
    return parameters


def _step(inner: InnerLoss, parameters: Tensors, inputs: Tensors, rate: Tensor, step: int) -> Tensors:
    gradients: Tensors = grad(inner)(parameters, inputs, step)
    return {name: value - rate * gradients[name] for name, value in parameters.items()}


def unrolled_gradient(
    inner: InnerLoss, outer: OuterLoss, parameters: Mapping[str, Tensor], inputs: Mapping[str, Tensor], rates: Tensor
) -> tuple[Tensor, Tensors, Tensor]:
    """Return the outer loss after :func:`descend`, and its gradients with respect to inputs and rates.

    The steps are differentiated backward one by one from stored parameters: with ``a`` the gradient of the outer loss
    with respect to the parameters after a step, each step is one product of ``a`` with the Jacobian of that step. It
    equals the gradient through one graph and needs the memory of a single step (Wang et al., arXiv 1811.10959).

    Args:
        inner: The inner loss.
        outer: The outer loss.
        parameters: First parameters, which have no gradient here.
        inputs: What the inner loss also reads.
        rates: Rates ``(T,)``.

    Returns:
        The outer loss, the gradient of every input, and the gradient of the rates ``(T,)``.
    """
    start = {name: value.detach() for name, value in parameters.items()}
    given, fixed = {name: value.detach() for name, value in inputs.items()}, rates.detach()
    path = [start]
    with torch.no_grad():
        for step, rate in enumerate(fixed):
            path.append(_step(inner, path[-1], given, rate, step))
        last, pull = _with_pull(outer, path[-1])
        (adjoint,) = pull(torch.ones_like(last))
        total = {name: torch.zeros_like(value) for name, value in given.items()}
        of_rates = torch.zeros_like(fixed)
        for step in reversed(range(len(fixed))):
            adjoint, own, of_rates[step] = _pulled(inner, path[step], given, fixed[step], step, adjoint)
            total = {name: value + own[name] for name, value in total.items()}
    return last, total, of_rates


def _pulled(
    inner: InnerLoss, parameters: Tensors, inputs: Tensors, rate: Tensor, step: int, adjoint: Tensors
) -> tuple[Tensors, Tensors, Tensor]:
    """Return the products of an adjoint with the Jacobians of one step: of parameters, inputs and rate."""
    _, pull = _with_pull(lambda p, x, r: _step(inner, p, x, r, step), parameters, inputs, rate)
    found: tuple[Tensors, Tensors, Tensor] = pull(adjoint)
    return found


def _with_pull(function: Callable[..., Any], *given: Any) -> tuple[Any, Callable[..., Any]]:
    """Return a function's value and its product of a vector with the Jacobian."""
    found: Any = vjp(function, *given)
    return found[0], found[1]


def look_ahead_gradient(
    inner: Callable[[Tensors, Tensor], Tensor],
    outer: OuterLoss,
    parameters: Mapping[str, Tensor],
    weights: Tensor,
    rate: float,
) -> Tensor:
    """Return the gradient, with respect to weights, of the outer loss after one step of the weighted inner loss.

    Args:
        inner: ``(parameters, weights) -> scalar``.
        outer: ``parameters -> scalar``.
        parameters: Parameters before the step.
        weights: Weights of samples and losses, any shape.
        rate: Rate of the step.
    """
    start = {name: value.detach() for name, value in parameters.items()}

    def after(given: Tensor) -> Tensor:
        gradients = grad(inner)(start, given)
        return outer({name: value - rate * gradients[name] for name, value in start.items()})

    found: Tensor = grad(after)(weights.detach())
    return found
