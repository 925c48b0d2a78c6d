"""Distillation without data: what a generator minimizes, and a curriculum over the difficulty of its samples.

CuDFKD (Li et al., arXiv 2208.13648), on the losses of data-free distillation before it. It works on tensors and on the
inputs of batch normalization; generators, students and training loops are not its business.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from policykd.divergences import categorical_jsd, categorical_kl
from policykd.errors import ConfigError, check_range
from policykd.kd.options import check_choice

Pacing = Literal["hard", "soft", "log"]
Adversary = Literal["kl", "js"]


class NormStatistics:
    """Distances of batch statistics to the running ones, at the inputs of all batch normalizations of a network.

    Args:
        network: A network in eval mode with at least one batch normalization.

    Raises:
        ConfigError: It has none: without statistics a generator is hardly bound to anything.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        if not self._layers:
            raise ConfigError(f"{type(network).__name__} has no batch normalization, whose statistics are compared")
        self._found: list[Tensor] = []

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Watch the forward passes of the network; :meth:`value` then speaks of the last one."""
        handles = [layer.register_forward_pre_hook(self._see) for layer in self._layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _see(self, layer: nn.Module, given: tuple[Any, ...]) -> None:
        if layer is self._layers[0]:
            self._found = []
        self._found.append(statistics_distance(given[0], layer.running_mean, layer.running_var))  # type: ignore[arg-type]

    def value(self) -> Tensor:
        """Return the sum over layers of :func:`statistics_distance` in the last forward pass."""
        return torch.stack(self._found).sum()


def statistics_distance(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return ``|mean_B - mean| + |var_B - var|``, with biased variances per channel and Euclidean norms.

    Args:
        x: Inputs ``(B, C, ...)``.
        mean: Running means ``(C,)``.
        variance: Running variances ``(C,)``.
    """
    rows = x.transpose(0, 1).flatten(1)
    return (rows.mean(1) - mean).norm() + (rows.var(1, unbiased=False) - variance).norm()


def certainty_loss(teacher: Tensor) -> Tensor:
    """Return the cross-entropy of logits ``(B, C)`` with their own most probable classes."""
    return F.cross_entropy(teacher, teacher.argmax(1))


def balance_entropy(teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return the entropy of the mean prediction over a batch of logits ``(B, C)``: at most ``log C``."""
    mean = (teacher / temperature).softmax(1).mean(0)
    return -(mean * mean.clamp_min(1e-12).log()).sum()


def adversarial_loss(student: Tensor, teacher: Tensor, *, temperature: float = 3.0, kind: Adversary = "kl") -> Tensor:
    """Return what makes a generator look for samples on which student and teacher differ.

    ``kl``: the negative mean of ``T^2 KL(teacher || student)``, counted where both name the same class. ``js``: one
    less the Jensen-Shannon divergence, clipped to [0, 1].

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``.
        temperature: T > 0.
        kind: See above.
    """
    check_choice("kind", kind, ("kl", "js"))
    if kind == "js":
        divergence = categorical_jsd(student, teacher, temperature=temperature, scale_t2=False)
        return 1.0 - divergence.clamp(0.0, 1.0)
    same = (student.argmax(1) == teacher.argmax(1)).to(student)
    own = (teacher / temperature).log_softmax(1)
    divergence = (own.exp() * (own - (student / temperature).log_softmax(1))).sum(1) * temperature**2
    return -(same * divergence).mean()


@torch.no_grad()
def paced_weights(losses: Tensor, age: float, kind: Pacing = "log") -> Tensor:
    """Return the weight of every sample ``(B,)`` in [0, 1]: the larger its loss, the smaller.

    Each minimizes ``v loss + g(v)``: ``hard`` is ``1(l < age)``; ``soft`` is ``1(l < age) (1 - l / age)``; ``log`` is
    ``(1 + exp(-age)) / (1 + exp(l - age))``.

    Args:
        losses: Losses ``(B,)``, at least 0.
        age: lambda > 0; weights grow with it.
        kind: See above.
    """
    check_choice("kind", kind, ("hard", "soft", "log"))
    check_range("age", age, 1e-12, 1e12)
    if kind == "log":
        return (1.0 + math.exp(-age)) * torch.sigmoid(age - losses)
    easy = (losses < age).to(losses)
    return easy if kind == "hard" else easy * (1.0 - losses / age)


def age_after(updates: int, *, start: float, growth: float) -> float:
    """Return lambda after a number of student updates: ``start + growth updates``."""
    return start + growth * updates


def adversarial_weight(epoch: int, epochs: int, *, begin: float, end: float, step: float, start: float = 0.0) -> float:
    """Return the weight of the adversarial loss in an epoch, raised by a step after each epoch of the middle part.

    Args:
        epoch: Number of the epoch, from 0; ``epochs`` itself gives the weight after the last one.
        epochs: Epochs of the training E.
        begin: It is raised after epochs above ``floor(begin E)``.
        end: And below ``floor(end E)``.
        step: What is added.
        start: First weight.
    """
    first, last = math.floor(begin * epochs) + 1, math.floor(end * epochs) - 1
    return start + step * max(0, min(epoch - 1, last) - first + 1)


def paced_loss(
    student: Tensor, teacher: Tensor, age: float, *, temperature: float, kind: Pacing = "log", per_sample: bool = True
) -> Tensor:
    """Return the mean of ``v_i T^2 KL_i``, with weights that get no gradient.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)``.
        age: lambda.
        temperature: T > 0.
        kind: Kind of the weights.
        per_sample: One weight per sample, as the paper says; otherwise one for the mean loss, as the authors' code.
    """
    losses = categorical_kl(student, teacher.detach(), temperature=temperature, reduction="none")
    if not per_sample:
        losses = losses.mean()[None]
    return (paced_weights(losses, age, kind) * losses).mean()
