"""How flat the loss is around trained weights: curvature by Hessian-vector products, and sharpness.

The functions take a closure ``loss() -> scalar`` and the parameters it depends on; measure on hard labels, in eval
mode, on fixed data, without weight decay, and in float64 for small networks. Curvature is not invariant to the scale
of the weights, and a very confident network looks flat because its loss saturates: report the loss as well.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policykd.errors import ConfigError, check_range
from policykd.kd.tasks.base import Split

Closure = Callable[[], Tensor]
Product = Callable[[Tensor], Tensor]
"""``v (P,) -> H v (P,)``."""


def hessian_vector_product(loss: Closure, parameters: Iterable[Tensor]) -> Product:
    """Return the map ``v -> H v`` at the present weights, ``H v = grad(grad f . v)``.

    The gradient's graph is built once; weights must not change while the product is in use.

    Args:
        loss: The closure.
        parameters: The weights of the Hessian, P numbers in all.

    Raises:
        ConfigError: There are no parameters.
    """
    given = _checked(parameters)
    first = torch.autograd.grad(loss(), given, create_graph=True, allow_unused=True)
    gradient = _flat([torch.zeros_like(p) if g is None else g for g, p in zip(first, given, strict=True)])

    def product(vector: Tensor) -> Tensor:
        if not gradient.requires_grad:  # a linear loss
            return torch.zeros_like(vector)
        second = torch.autograd.grad(gradient @ vector, given, retain_graph=True, allow_unused=True)
        return _flat([torch.zeros_like(p) if g is None else g for g, p in zip(second, given, strict=True)])

    return product


def hutchinson_trace(product: Product, probes: Tensor) -> tuple[float, float]:
    """Return the trace of the Hessian by Hutchinson's estimator, ``mean of v' H v``.

    Args:
        product: From :func:`hessian_vector_product`.
        probes: Vectors of independent signs ``(m, P)``, see :func:`rademacher`.

    Returns:
        The estimate and its standard error (0 for one probe).
    """
    values = torch.stack([probe @ product(probe) for probe in probes])
    error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else 0.0
    return float(values.mean()), error


def rademacher(count: int, parameters: Iterable[Tensor], generator: torch.Generator) -> Tensor:
    """Return random signs ``(count, P)`` in the parameters' type."""
    given = _checked(parameters)
    size = sum(p.numel() for p in given)
    return torch.randint(0, 2, (count, size), generator=generator).to(given[0]) * 2 - 1


def top_eigenvalue(
    product: Product, start: Tensor, *, iterations: int = 200, tolerance: float = 1e-6
) -> tuple[float, Tensor]:
    """Return the Hessian's eigenvalue of largest magnitude, by power iteration.

    Args:
        product: From :func:`hessian_vector_product`.
        start: Where to start ``(P,)``, not orthogonal to the eigenvector: random.
        iterations: Most iterations.
        tolerance: Relative change of the Rayleigh quotient at which to stop.

    Returns:
        The eigenvalue and its unit eigenvector ``(P,)``; 0 and the start where ``H v`` vanishes.

    Raises:
        ConfigError: The start is zero, or no iteration is allowed.
    """
    check_range("iterations", iterations, 1, math.inf)
    if not float(start.norm()) > 0:
        raise ConfigError("power iteration cannot start from zero")
    vector, value = start / start.norm(), 0.0
    for _ in range(iterations):
        moved = product(vector)
        before, value = value, float(vector @ moved)
        size = float(moved.norm())
        if size == 0.0:
            return 0.0, vector
        vector = moved / size
        if abs(value - before) <= tolerance * abs(value):
            break
    return value, vector


def sam_sharpness(loss: Closure, parameters: Iterable[Tensor], *, radius: float, start: Tensor | None = None) -> float:
    """Return the rise of the loss in a ball to first order: ``f(w + rho g / ||g||) - f(w)`` (Foret et al. 2021, eq. 2).

    Where the gradient is exactly zero that direction is not defined; the result is then the largest rise of the
    quadratic model, ``rho^2 lambda / 2`` with the largest eigenvalue, found by power iteration from ``start``.

    Args:
        loss: The closure.
        parameters: The weights; they are moved and put back.
        radius: rho > 0.
        start: Start of the power iteration ``(P,)``; random signs of a fixed seed if None.

    Raises:
        ConfigError: The radius is not above 0.
    """
    if not radius > 0:
        raise ConfigError(f"radius is {radius}; it must be positive")
    given = _checked(parameters)
    here = loss()
    gradient = torch.autograd.grad(here, given, allow_unused=True)
    steps = [torch.zeros_like(p) if g is None else g for g, p in zip(gradient, given, strict=True)]
    size = float(_flat(steps).norm())
    if size == 0.0:
        if start is None:
            start = rademacher(1, given, torch.Generator().manual_seed(0))[0]
        return 0.5 * radius**2 * max(top_eigenvalue(hessian_vector_product(loss, given), start)[0], 0.0)
    return _moved_loss(loss, given, [radius / size * step for step in steps]) - float(here.detach())


def measure_flatness(
    network: nn.Module, data: Split, *, probes: int, radius: float, generator: torch.Generator
) -> dict[str, float]:
    """Return curvature and sharpness of the cross-entropy on hard labels around a network's weights, in float64.

    Args:
        network: Left as it was.
        data: Inputs and labels, all at once.
        probes: Probes of the trace.
        radius: Radius of the sharpness.
        generator: Source of the probes.

    Returns:
        ``hessian trace``, ``largest eigenvalue``, ``sharpness``, ``training loss``.
    """
    double = copy.deepcopy(network).double()
    x, parameters = data.x.double(), list(double.parameters())

    def loss() -> Tensor:
        return F.cross_entropy(double(x), data.y)

    product = hessian_vector_product(loss, parameters)
    signs = rademacher(probes + 1, parameters, generator)
    return {
        "hessian trace": hutchinson_trace(product, signs[1:])[0],
        "largest eigenvalue": top_eigenvalue(product, signs[0], iterations=50, tolerance=1e-3)[0],
        "sharpness": sam_sharpness(loss, parameters, radius=radius),
        "training loss": float(loss().detach()),
    }


@torch.no_grad()
def _moved_loss(loss: Closure, parameters: Sequence[Tensor], steps: Sequence[Tensor]) -> float:
    kept = [parameter.clone() for parameter in parameters]
    try:
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.add_(step)
        return float(loss())
    finally:
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)


def _checked(parameters: Iterable[Tensor]) -> list[Tensor]:
    given = list(parameters)
    if not given:
        raise ConfigError("there are no parameters")
    return given


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
