"""Weights of losses for every sample, learned by their effect on held-out data (AMAL, Sivasubramanian et al. 2023).

It works on logits and features of the last layer alone; networks and training loops are not its business. The general
gradient, through any layers, is ``policykd.kd.training.bilevel.look_ahead_gradient``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from policykd.errors import check_range

FLOOR = 1e-7
"""Smallest weight; the largest is as far below 2."""


def loss_gradients(logits: Tensor, target: Tensor, teachers: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Return the gradients of every sample's losses with respect to its logits ``(N, M + 1, C)``.

    The first is that of cross-entropy, ``softmax(z) - onehot(y)``, the others those of ``T^2 KL`` to every teacher,
    ``T (softmax(z / T) - softmax(z_m / T))``.

    Args:
        logits: Logits ``(N, C)``.
        target: Class indices ``(N,)``.
        teachers: Logits ``(M, N, C)``.
        temperature: T > 0.
    """
    hard = logits.softmax(1) - F.one_hot(target, logits.shape[1]).to(logits)
    soft = (logits / temperature).softmax(1) - (teachers / temperature).softmax(2)
    return torch.cat([hard[:, None], temperature * soft.transpose(0, 1)], 1)


def logits_ahead(
    weights: Tensor, gradients: Tensor, features: Tensor, held_logits: Tensor, held_features: Tensor, *, step: float
) -> Tensor:
    """Return held-out logits ``(V, C)`` after one step of the last linear layer on weighted losses.

    Args:
        weights: Weights ``(N, M + 1)``.
        gradients: Gradients at the logits ``(N, M + 1, C)``.
        features: Inputs of the last layer ``(N, D)``.
        held_logits: Held-out logits before the step ``(V, C)``.
        held_features: Held-out inputs of the last layer ``(V, D)``.
        step: Rate of the step over the size of a batch, ``eta / B``: a batch's loss is a mean.
    """
    kernel = 1.0 + held_features @ features.T
    return held_logits - step * kernel @ (weights[..., None] * gradients).sum(1)


def mixing_gradient(
    weights: Tensor,
    gradients: Tensor,
    features: Tensor,
    held_logits: Tensor,
    held_features: Tensor,
    held_target: Tensor,
    *,
    step: float,
) -> Tensor:
    """Return the gradient of the held-out cross-entropy, after the step, with respect to the weights ``(N, M + 1)``.

    ``-step mean_v (1 + h_v h_i) <softmax(z'_v) - onehot(y_v), g_im>``: a weight shall grow exactly where its gradient
    points along the held-out one.

    Args:
        weights: Weights ``(N, M + 1)``.
        gradients: Gradients at the logits ``(N, M + 1, C)``.
        features: Inputs of the last layer ``(N, D)``.
        held_logits: Held-out logits ``(V, C)``.
        held_features: Held-out inputs of the last layer ``(V, D)``.
        held_target: Held-out class indices ``(V,)``.
        step: ``eta / B``.
    """
    ahead = logits_ahead(weights, gradients, features, held_logits, held_features, step=step)
    held = ahead.softmax(1) - F.one_hot(held_target, ahead.shape[1]).to(ahead)
    kernel = 1.0 + held_features @ features.T
    pulled = kernel.T @ held / len(held)
    return -step * (gradients * pulled[:, None]).sum(2)


class MixingWeights:
    """Weights of the losses of every sample, each in [1e-7, 2 - 1e-7].

    Args:
        samples: Number of samples N.
        teachers: Number of teachers M.
        start: First weight of every teacher; that of the labels is one less it.
    """

    def __init__(self, samples: int, teachers: int, *, start: float = 0.9) -> None:
        check_range("start", start, 0.0, 1.0)
        values = torch.full((samples, teachers + 1), start)
        values[:, 0] = 1.0 - start
        self.values = values.clamp(FLOOR, 2.0 - FLOOR)

    @torch.no_grad()
    def refine(
        self,
        rows: Tensor,
        gradients: Tensor,
        features: Tensor,
        held_logits: Tensor,
        held_features: Tensor,
        held_target: Tensor,
        *,
        step: float,
        rate: float,
        updates: int = 5,
    ) -> None:
        """Move the weights of a group of samples down the held-out loss; no other weight changes.

        Args:
            rows: Positions of the group ``(n,)``.
            gradients: Gradients at the group's logits ``(n, M + 1, C)``.
            features: The group's inputs of the last layer ``(n, D)``.
            held_logits: Held-out logits ``(V, C)``.
            held_features: Held-out inputs of the last layer ``(V, D)``.
            held_target: Held-out class indices ``(V,)``.
            step: ``eta / B`` of the virtual step.
            rate: Rate of the weights; ``kappa / step`` makes kappa independent of the scale of the step.
            updates: Updates of the group.
        """
        held = (held_logits, held_features, held_target)
        for _ in range(updates):
            slope = mixing_gradient(self.values[rows], gradients, features, *held, step=step)
            self.values[rows] = (self.values[rows] - rate * slope).clamp(FLOOR, 2.0 - FLOOR)
