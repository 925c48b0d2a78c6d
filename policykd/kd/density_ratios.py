"""Density ratios by classification: weights that make a label and a nuisance independent, and critics of dependence.

Arrays and tensors only; the models that give probabilities come from the caller. A critic tells triples of
(representation, label, nuisance) from triples whose nuisance was exchanged; the logit of an optimal one is the log
ratio of both densities (Sugiyama, Suzuki, Kanamori, Density Ratio Estimation, 2012). Its use for distillation: Puli,
Zhang, Oermann, Ranganath (ICLR 2022, arXiv 2107.00520).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from policykd.errors import ConfigError, ShapeError, check_range

Fitter = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]
"""``(z, y) -> (z -> probabilities (N, C))``: fits a model of the label given the nuisance."""


def cross_fitted(fit: Fitter, z: np.ndarray, y: np.ndarray, *, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Return probabilities ``(N, C)`` of every sample by a model that was fitted to the other folds.

    Args:
        fit: Fits a model.
        z: Nuisance ``(N, ...)``.
        y: Labels ``(N,)``.
        folds: Number of folds, drawn with as many samples of every label as possible.
        rng: Source of the folds.

    Raises:
        ConfigError: A label has fewer samples than there are folds.
    """
    counts = np.bincount(y)
    check_range("folds", folds, 2, int(counts[counts > 0].min()))
    fold = np.empty(len(y), dtype=np.int64)
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        fold[rows] = np.arange(len(rows)) % folds
    found: list[np.ndarray] = [fit(z[fold != k], y[fold != k])(z[fold == k]) for k in range(folds)]
    result = np.empty((len(y), found[0].shape[1]))
    for k, part in enumerate(found):
        result[fold == k] = part
    return result


def independence_weights(
    probabilities: np.ndarray, y: np.ndarray, *, smallest: float = 0.05, largest: float = 0.95
) -> np.ndarray:
    """Return weights ``(N,)`` proportional to ``p(y) / p(y | z)``, under which label and nuisance are independent.

    Probabilities are clamped; afterwards every label gets back its share of the total, which is 1.

    Args:
        probabilities: ``p(y | z)`` for all labels ``(N, C)``.
        y: Labels ``(N,)``.
        smallest: Lower clamp of the label's probability: no weight is above ``p(y) / smallest``.
        largest: Upper clamp.

    Raises:
        ConfigError: The clamps are not in order.
    """
    if not 0.0 < smallest < largest <= 1.0:
        raise ConfigError(f"smallest is {smallest} and largest is {largest}; they must be ascending in (0, 1]")
    weights = 1.0 / probabilities[np.arange(len(y)), y].clip(smallest, largest)
    for label in np.unique(y):
        rows = y == label
        weights[rows] *= rows.mean() / weights[rows].sum()
    return weights


def effective_samples(weights: np.ndarray) -> float:
    """Return Kish's number of equally weighted samples with the variance of these: ``(sum w)**2 / sum w**2``."""
    return float(weights.sum() ** 2 / (weights**2).sum())


class Critic(nn.Module):
    """Logit of whether representation, label and nuisance belong together.

    Args:
        representation: Width of the representation.
        nuisance: Width of the nuisance.
        hidden: Widths of the hidden layers.
    """

    def __init__(self, representation: int, nuisance: int, hidden: tuple[int, ...] = (16, 16)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = representation + 1 + nuisance
        for out in hidden:
            layers += [nn.Linear(width, out), nn.ReLU()]
            width = out
        self.net = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, representation: Tensor, label: Tensor, nuisance: Tensor) -> Tensor:
        """Map ``(B, R)``, labels ``(B,)`` and ``(B, Z)`` to logits ``(B,)``; above 0 for triples that belong together.

        Raises:
            ShapeError: The batch sizes differ.
        """
        if not len(representation) == len(label) == len(nuisance):
            raise ShapeError(
                f"got {len(representation)} representations, {len(label)} labels, {len(nuisance)} nuisances"
            )
        return self.net(torch.cat([representation, label[:, None].to(representation), nuisance], 1))[:, 0]


def critic_loss(
    critic: nn.Module, representation: Tensor, label: Tensor, nuisance: Tensor, weights: Tensor, *, generator: Generator
) -> Tensor:
    """Return the weighted cross-entropy of telling triples from triples with exchanged nuisances; log 2 by chance.

    Args:
        critic: The critic.
        representation: ``(B, R)``; detached here.
        label: ``(B,)``.
        nuisance: ``(B, Z)``.
        weights: Weights ``(B,)``, for both halves: the nuisance's distribution is the same under them.
        generator: Source of the exchange.
    """
    fixed, share = representation.detach(), weights / weights.sum()
    other = torch.multinomial(share, len(share), replacement=True, generator=generator)
    together, apart = critic(fixed, label, nuisance), critic(fixed, label, nuisance[other])
    return 0.5 * (share * (F.softplus(-together) + F.softplus(apart))).sum()


def information(critic: nn.Module, representation: Tensor, label: Tensor, nuisance: Tensor, weights: Tensor) -> Tensor:
    """Return the mean log ratio, an estimate of the information between (representation, label) and nuisance.

    Gradients reach representation and critic; give the optimizer of one of them only.

    Args:
        critic: A critic that was trained on these representations.
        representation: ``(B, R)``.
        label: ``(B,)``.
        nuisance: ``(B, Z)``.
        weights: ``(B,)``.
    """
    return (weights / weights.sum() * critic(representation, label, nuisance)).sum()
