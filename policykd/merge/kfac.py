"""K-FAC: gradient steps in units of the student's actions instead of its weights, for networks of dense layers.

It knows networks and gradients, and nothing of labels, skills or merges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

DENSE = (nn.Linear, nn.ELU, nn.ReLU, nn.SiLU, nn.Tanh)
"""Modules that a network may consist of."""


class KFAC(torch.optim.Optimizer):
    """Natural gradient steps of a given length, with Kronecker-factored curvature and momentum.

    The curvature of the squared error of a network's outputs is approximated layer by layer as the product of the
    second moments of its inputs, ``A = E[a a^T]``, and of the derivatives of the outputs by its pre-activations along
    random directions, ``G = E[g g^T]`` (Martens & Grosse, Optimizing Neural Networks with Kronecker-factored
    Approximate Curvature, 2015). A step is ``- length * G^-1 D A^-1 / sqrt(<D, G^-1 D A^-1>)`` for the gradient ``D``
    of all layers together: it changes the outputs by ``length``, whatever the scale of the loss. Against the paper,
    damping and momentum are fixed, and steps have the same length instead of a length that is found by a quadratic
    model; the average over the weights that acts makes up for the noise of both.

    Args:
        network: dense layers and activations, each layer used once in a forward pass.
        lr: length of a step: root mean square over the outputs of their predicted change.
        momentum: share of the last step that the next one begins with.
        damping: lambda, added to the curvature so that directions that change no output have finite steps; it is split
            between A and G as in the paper.
        decay: share of their earlier values that A and G keep when they are measured.
        measure_every: steps between two measurements.
        invert_every: steps between two inversions; the first measurements are inverted at once.

    Raises:
        ValueError: for a network with other modules.
    """

    def __init__(
        self,
        network: nn.Sequential,
        *,
        lr: float,
        momentum: float = 0.8,
        damping: float = 1e-3,
        decay: float = 0.95,
        measure_every: int = 5,
        invert_every: int = 20,
    ) -> None:
        if not is_dense(network):
            raise ValueError(f"K-FAC is for networks of {', '.join(kind.__name__ for kind in DENSE)}")
        self._layers = [layer for layer in network if isinstance(layer, nn.Linear)]
        super().__init__(
            [{"params": [layer.weight, layer.bias]} for layer in self._layers],
            {"lr": lr, "momentum": momentum, "damping": damping, "decay": decay, "steps": 0, "measured": 0},
        )
        self._measure_every, self._invert_every = measure_every, invert_every

    @property
    def wants_measurement(self) -> bool:
        """Whether :meth:`measure` is due before the next step."""
        return self.param_groups[0]["steps"] % self._measure_every == 0

    def measure(self, forward: Callable[[], torch.Tensor], generator: torch.Generator) -> None:
        """Update the curvature by the states of a forward pass.

        Args:
            forward: runs the network once and returns its outputs (n, k), or these in another order.
            generator: source of the random directions.
        """
        inputs, outputs = [], []

        def keep(_: nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> None:
            inputs.append(given[0].detach())
            outputs.append(made)

        hooks = [layer.register_forward_hook(keep) for layer in self._layers]
        try:
            made = forward()
        finally:
            for hook in hooks:
                hook.remove()
        directions = torch.randn(made.shape, generator=generator, device=made.device)
        derivatives = torch.autograd.grad((made * directions).sum(), outputs)
        for group, a, g in zip(self.param_groups, inputs, derivatives, strict=True):
            self._update(group, _with_ones(a), g)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make a step along the gradients of the parameters; ``closure`` is not used.

        Raises:
            RuntimeError: before the first measurement.
        """
        if self.param_groups[0]["measured"] == 0:
            raise RuntimeError("K-FAC has not measured a curvature yet; call measure first")
        if self._wants_inversion():
            for group in self.param_groups:
                self._invert(group)
        gradients = [_gradient(weight, bias) for weight, bias in self._parameters()]
        natural = [
            self.state[w]["inverse_output"] @ d @ self.state[w]["inverse_input"]
            for (w, _), d in zip(self._parameters(), gradients, strict=True)
        ]
        square = torch.stack([(n * d).sum() for n, d in zip(natural, gradients, strict=True)]).sum()
        count = self._layers[-1].out_features
        scale = (count / square.clamp_min(1e-30)).sqrt()
        for group, (weight, bias), change in zip(self.param_groups, self._parameters(), natural, strict=True):
            state = self.state[weight]
            state["velocity"].mul_(group["momentum"]).add_(change * scale)
            weight.sub_(state["velocity"][:, :-1], alpha=group["lr"])
            bias.sub_(state["velocity"][:, -1], alpha=group["lr"])
            group["steps"] += 1

    def _parameters(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(group["params"][0], group["params"][1]) for group in self.param_groups]

    def _update(self, group: dict[str, Any], a: torch.Tensor, g: torch.Tensor) -> None:
        """Take inputs (n, in + 1) and derivatives (n, out) of a layer into its curvature."""
        state = self.state[group["params"][0]]
        if not state:
            state["input"], state["output"] = a.new_zeros(a.shape[1], a.shape[1]), g.new_zeros(g.shape[1], g.shape[1])
            state["velocity"] = a.new_zeros(g.shape[1], a.shape[1])
        group["measured"] += 1
        keep = min(group["decay"], 1 - 1 / group["measured"])
        for name, rows in (("input", a), ("output", g)):
            state[name].mul_(keep).addmm_(rows.T, rows, alpha=(1 - keep) / len(rows))

    def _wants_inversion(self) -> bool:
        """Return whether A and G have changed much since they were inverted."""
        group = self.param_groups[0]
        early = group["measured"] <= self._invert_every // self._measure_every
        return group["steps"] % (self._measure_every if early else self._invert_every) == 0

    def _invert(self, group: dict[str, Any]) -> None:
        state = self.state[group["params"][0]]
        a, g, root = state["input"], state["output"], math.sqrt(group["damping"])
        balance = (a.trace() / len(a) / (g.trace() / len(g)).clamp_min(1e-30)).sqrt().clamp(1e-6, 1e6)
        state["inverse_input"] = _inverse(a, root * balance)
        state["inverse_output"] = _inverse(g, root / balance)


def is_dense(network: nn.Module) -> bool:
    """Return whether K-FAC is for a network: a sequence of dense layers and activations."""
    return isinstance(network, nn.Sequential) and all(isinstance(module, DENSE) for module in network)


def _gradient(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return the gradient (out, in + 1) of a layer."""
    assert weight.grad is not None
    assert bias.grad is not None
    return torch.cat([weight.grad, bias.grad[:, None]], dim=1)


def _with_ones(rows: torch.Tensor) -> torch.Tensor:
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)


def _inverse(matrix: torch.Tensor, damping: torch.Tensor) -> torch.Tensor:
    """Return the inverse of a positive semidefinite matrix plus a multiple of the identity."""
    damped = matrix + damping * torch.eye(len(matrix), device=matrix.device)
    return torch.cholesky_inverse(torch.linalg.cholesky_ex(damped)[0])  # not finite for what is not finite
