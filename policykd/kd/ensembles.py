"""Weighted ensembles: their quality, weights found by differential evolution, and the ensemble as a teacher.

Members are given by their outputs on a data set, never as networks, so that a search costs no forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from policykd.divergences import check_temperature, prepare_tensor
from policykd.errors import ConfigError, UnknownNameError, check_range
from policykd.kd.objective.teachers import log_probabilities

Goal = Literal["nll", "accuracy"]
Softening = Literal["softened", "resoftened", "logits"]

_TINY = 1e-300  # the log of a probability of zero must stay finite in float64


@dataclass(frozen=True)
class EvolutionConfig:
    """Differential evolution (Storn and Price 1997) with the strategy best1bin on weights in [0, 1].

    Attributes:
        population: members per weight.
        mutation: range of the dithered mutation factor F.
        recombination: crossover rate CR.
        generations: most generations.
        tolerance: relative spread of the population's values at which it has converged.
        polish: refine the best member with L-BFGS-B; useless for the piecewise constant accuracy, where it is skipped.
    """

    population: int = 15
    mutation: tuple[float, float] = (0.5, 1.0)
    recombination: float = 0.7
    generations: int = 1000
    tolerance: float = 1e-7
    polish: bool = True

    def __post_init__(self) -> None:
        check_range("population", self.population, 5, 10_000)
        check_range("recombination", self.recombination, 0, 1)
        check_range("generations", self.generations, 1, 1_000_000)


@dataclass(frozen=True)
class EnsembleWeights:
    """What differential evolution found.

    Attributes:
        weights: normalized weights (M,); they sum to one.
        value: the objective there: nats, or the share of errors.
        evaluations: weight vectors that were tried.
    """

    weights: np.ndarray
    value: float
    evaluations: int


def normalized(weights: ArrayLike) -> np.ndarray:
    """Weights divided by their sum along the first axis; all zero gives equal weights.

    Args:
        weights: (M,) or (M, S) for S candidates, each >= 0.

    Raises:
        ConfigError: a weight is negative or not finite.
    """
    w = np.asarray(weights, dtype=float)
    if w.ndim == 0 or not len(w) or not (np.isfinite(w).all() and (w >= 0).all()):
        raise ConfigError(f"weights must be at least one number, finite and not negative, got {w}")
    total = w.sum(0, keepdims=True)
    return np.where(total > 0, w / np.where(total > 0, total, 1.0), 1.0 / len(w))


def ensemble_probabilities(probabilities: ArrayLike, weights: ArrayLike) -> np.ndarray:
    """Weighted mean of class probabilities (M, N, C) over the members: (N, C)."""
    p = _checked_probabilities(probabilities)
    w = normalized(weights)
    if w.shape != (len(p),):
        raise ConfigError(f"{len(p)} members need {len(p)} weights, got shape {w.shape}")
    return np.einsum("m,mnc->nc", w, p)


def ensemble_nll(probabilities: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> float:
    """Mean negative log-likelihood of the labels under the weighted ensemble, in nats."""
    p = ensemble_probabilities(probabilities, weights)
    y = _checked_labels(labels, p.shape)
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], _TINY)).mean())


def ensemble_accuracy(probabilities: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> float:
    """Share of samples whose most probable class (the lower one of a tie) is the label."""
    p = ensemble_probabilities(probabilities, weights)
    return float((p.argmax(1) == _checked_labels(labels, p.shape)).mean())


def evolve_weights(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    seed: int,
    goal: Goal = "nll",
    config: EvolutionConfig = EvolutionConfig(),
) -> EnsembleWeights:
    """Find the ensemble's weights on held-out data by differential evolution.

    Args:
        probabilities: class probabilities of M members on N held-out samples (M, N, C). On training data the most
            over-fitted member would get all the weight.
        labels: (N,).
        seed: seeds the population and the search.
        goal: minimize the mean negative log-likelihood (convex in the weights), or the share of errors (piecewise
            constant: many optima, which one depends on the seed).
        config: the evolution.

    Raises:
        ConfigError: shapes or values do not fit.
        UnknownNameError: an unknown goal.
    """
    p = _checked_probabilities(probabilities)
    y = _checked_labels(labels, p.shape[1:])
    if goal not in ("nll", "accuracy"):
        raise UnknownNameError("goal", goal, ("nll", "accuracy"))
    if len(p) == 1:
        value = ensemble_nll(p, y, [1.0]) if goal == "nll" else 1 - ensemble_accuracy(p, y, [1.0])
        return EnsembleWeights(np.ones(1), value, 0)
    of_label = p[:, np.arange(len(y)), y]

    def objective(candidates: np.ndarray) -> np.ndarray:
        w = normalized(candidates)  # (M,) or (M, S)
        if goal == "nll":
            return -np.log(np.maximum(w.T @ of_label, _TINY)).mean(-1)
        return 1 - (np.einsum("m...,mnc->...nc", w, p).argmax(-1) == y).mean(-1)

    from scipy.optimize import differential_evolution

    found = differential_evolution(
        objective,
        [(0.0, 1.0)] * len(p),
        strategy="best1bin",
        popsize=config.population,
        mutation=config.mutation,
        recombination=config.recombination,
        maxiter=config.generations,
        tol=config.tolerance,
        polish=config.polish and goal == "nll",
        init="latinhypercube",
        updating="deferred",
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return EnsembleWeights(normalized(found.x), float(found.fun), int(found.nfev))


def ensemble_logits(
    logits: Tensor, weights: ArrayLike, *, temperature: float, softening: Softening = "softened"
) -> Tensor:
    """The ensemble as a teacher: logits whose ``softmax(z / T)`` is the ensemble at temperature T.

    Softenings: ``softened`` averages ``softmax(z_m / T)``; ``resoftened`` averages at T = 1 and softens the result;
    ``logits`` averages logits. They are the same for one member.

    Args:
        logits: ``(M, N, C)``.
        weights: Weights ``(M,)``, normalized here.
        temperature: T > 0.
        softening: See above.

    Returns:
        ``(N, C)``, off the graph.

    Raises:
        ConfigError: Shapes do not fit.
        UnknownNameError: An unknown softening.
        ValueError: A value is not finite, or the temperature is not above 0.
    """
    check_temperature(temperature)
    members = prepare_tensor("member logits", logits.detach())
    w = torch.from_numpy(normalized(weights)).to(members)
    if members.dim() != 3 or w.shape != members.shape[:1]:
        raise ConfigError(f"member logits must be (M, N, C) with M weights, got {tuple(members.shape)} and {len(w)}")
    if softening == "softened":
        return temperature * log_probabilities(_mixed(w, (members / temperature).softmax(-1)))
    if softening == "resoftened":
        return log_probabilities(_mixed(w, members.softmax(-1)))
    if softening == "logits":
        return _mixed(w, members)
    raise UnknownNameError("softening", softening, ("softened", "resoftened", "logits"))


def check_member_logits(logits: Tensor) -> Tensor:
    """Return the members' logits off the graph, in float32 at least.

    Args:
        logits: ``(M, N, C)``.

    Raises:
        ValueError: There are not three dimensions, or a value is not finite.
    """
    members = prepare_tensor("member logits", logits.detach())
    if members.dim() != 3:
        raise ValueError(f"member logits must be (M, N, C), got {tuple(members.shape)}")
    return members


def selected_logits(logits: Tensor, member: Tensor) -> Tensor:
    """Return the logits of one member per sample, as targets of any loss on logits.

    Args:
        logits: ``(M, N, C)``.
        member: Position of the member ``(N,)`` in [0, M).

    Returns:
        ``(N, C)``, off the graph.

    Raises:
        ValueError: Shapes do not fit, a value is not finite, or a position is out of range.
    """
    members = check_member_logits(logits)
    count, samples, _ = members.shape
    if member.shape != (samples,):
        raise ValueError(f"member must have shape ({samples},), got {tuple(member.shape)}")
    if int(member.min()) < 0 or int(member.max()) >= count:
        raise ValueError(f"member must be in [0, {count - 1}], got {int(member.min())} to {int(member.max())}")
    return members.take_along_dim(member[None, :, None], 0)[0]


def _mixed(weights: Tensor, members: Tensor) -> Tensor:
    return torch.einsum("m,mnc->nc", weights, members)


def _checked_probabilities(probabilities: ArrayLike) -> np.ndarray:
    p = np.asarray(probabilities, dtype=float)
    if p.ndim != 3 or not p.size:
        raise ConfigError(f"probabilities must be (M, N, C), got {p.shape}")
    if not (p >= 0).all() or not np.allclose(p.sum(-1), 1, atol=1e-3):
        raise ConfigError("probabilities must not be negative and must sum to one over classes")
    return p


def _checked_labels(labels: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    y = np.asarray(labels)
    if y.shape != shape[:1] or not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= shape[1]:
        raise ConfigError(f"labels must be ({shape[0]},) integers in [0, {shape[1] - 1}], got {y.dtype} {y.shape}")
    return y
