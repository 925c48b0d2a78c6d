"""Self-distillation in kernel ridge regression, in closed form.

With a kernel matrix ``K = V D V'`` and a ridge, step tau multiplies the component of the labels along an eigenvector by
the diagonal ``B(tau)``,

``B(1) = A,  B(tau) = A ((1 - w) B(tau - 1) + w I),  A = D / (D + ridge)``

with w the weight of the ground truth (Borup and Andersen, NeurIPS 2021, arXiv 2102.13088). For a constant w > 0 the
limit is ordinary ridge regression with ``ridge / w``; for w = 0 it is the zero function. Everything here is NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from policykd.errors import ConfigError, check_range


def step_factors(shrinkage: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Return the diagonals ``B(0) ... B(tau)`` by recursion.

    Args:
        shrinkage: ``A = d / (d + ridge)`` of every eigenvalue, shape (n,).
        weights: weight of the ground truth at steps 1 ... tau; the first one has no influence, since step 1 is the
            ordinary fit.

    Returns:
        (tau + 1, n); row 0 is ``B(0) = 1``.

    Raises:
        ConfigError: for a weight that is not finite (weights outside [0, 1] are allowed: the best one can be).
    """
    factors = [np.ones_like(shrinkage)]
    for weight in _checked_weights(weights):
        factors.append(shrinkage * ((1 - weight) * factors[-1] + weight))
    return np.stack(factors)


def summed_factors(shrinkage: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Return the diagonal ``B(tau)`` as an unrolled sum over earlier steps, the last row of :func:`step_factors`.

    Raises:
        ConfigError: for no step, or a weight that is not finite.
    """
    given = _checked_weights(weights)
    steps = len(given)
    if not steps:
        raise ConfigError("weights is empty; there must be at least one step")
    kept = np.append(np.cumprod(1 - given[::-1])[::-1], 1.0)  # kept[j] = product of (1 - w) from position j on
    total = kept[1] * shrinkage**steps
    for j in range(1, steps):
        total = total + given[j] * kept[j + 1] * shrinkage ** (steps - j)
    return total


def constant_weight_factors(shrinkage: np.ndarray, weight: float, step: int) -> np.ndarray:
    """Return the diagonal ``B(step)`` for the same weight at all steps, in closed form (a geometric series).

    Args:
        shrinkage: ``A``, each in [0, 1), shape (n,).
        weight: weight of the ground truth in [0, 1].
        step: tau >= 1.

    Raises:
        ConfigError: for a weight or step out of range.
    """
    check_range("weight", weight, 0, 1)
    check_range("step", step, 1, np.inf)
    q = (1 - weight) * shrinkage
    return q ** (step - 1) * shrinkage + weight * shrinkage * (1 - q ** (step - 1)) / (1 - q)


def limit_factors(eigenvalues: np.ndarray, ridge: float, weight: float) -> np.ndarray:
    """Return the diagonal after infinitely many steps: ``d / (d + ridge / weight)``, and 0 for a weight of 0.

    Raises:
        ConfigError: for a ridge that is not positive or a weight outside [0, 1].
    """
    _check_ridge(ridge)
    check_range("weight", weight, 0, 1)
    return weight * eigenvalues / (weight * eigenvalues + ridge)


def best_weight(target: ArrayLike, on_labels: ArrayLike, on_predictions: ArrayLike) -> float:
    """Return the weight of the ground truth that minimizes the squared error of a step on held-out data.

    The prediction is ``w u + (1 - w) v``, so that ``w* = <t - v, u - v> / ||u - v||^2``. It can be outside [0, 1]
    (negative when the ridge is too small); clip it where that range is wanted.

    Args:
        target: held-out targets t, any shape.
        on_labels: u, predictions of the fit on the labels (weight 1), same shape.
        on_predictions: v, predictions of the fit on the previous step's predictions (weight 0), same shape.

    Raises:
        ConfigError: if shapes differ or both fits agree, where every weight is best.
    """
    t, u, v = (np.asarray(values, dtype=float) for values in (target, on_labels, on_predictions))
    if not t.shape == u.shape == v.shape:
        raise ConfigError(f"target and predictions need one shape; got {t.shape}, {u.shape} and {v.shape}")
    gap = u - v
    size = float((gap**2).sum())
    if size == 0.0:
        raise ConfigError("both fits predict the same; every weight is equally good")
    return float(((t - v) * gap).sum() / size)


class KernelSelfDistillation:
    """All steps of self-distillation in kernel ridge regression from one eigen-decomposition.

    Args:
        kernel: K of the training inputs (n, n), symmetric and positive semi-definite.
        targets: labels (n,) or (n, C), centered by the caller: a weight of 0 shrinks toward zero, not the mean.
        ridge: penalty > 0.

    Raises:
        ConfigError: if shapes do not fit, K is not symmetric, or the ridge is not positive.
    """

    def __init__(self, kernel: ArrayLike, targets: ArrayLike, *, ridge: float) -> None:
        _check_ridge(ridge)
        matrix, y = np.asarray(kernel, dtype=float), np.asarray(targets, dtype=float)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.allclose(matrix, matrix.T):
            raise ConfigError(f"the kernel matrix must be square and symmetric; got shape {matrix.shape}")
        if y.ndim not in (1, 2) or len(y) != len(matrix):
            raise ConfigError(f"targets must be (n,) or (n, C) with n = {len(matrix)}; got {y.shape}")
        eigenvalues, self._vectors = np.linalg.eigh(matrix)
        self.eigenvalues = np.maximum(eigenvalues, 0.0)  # rounding makes tiny ones negative
        self.ridge = ridge
        self._components = self._vectors.T @ y.reshape(len(y), -1)
        self._shape = y.shape[1:]

    @property
    def shrinkage(self) -> np.ndarray:
        """``A = d / (d + ridge)``, ascending, shape (n,)."""
        return self.eigenvalues / (self.eigenvalues + self.ridge)

    def with_ridge(self, ridge: float) -> KernelSelfDistillation:
        """Return the same problem with another ridge; the decomposition is shared."""
        _check_ridge(ridge)
        other = object.__new__(KernelSelfDistillation)
        other.__dict__.update(self.__dict__, ridge=ridge)
        return other

    def fitted(self, weights: Sequence[float]) -> np.ndarray:
        """Return predictions at the training inputs after every step: (steps, n, ...)."""
        factors = step_factors(self.shrinkage, weights)[1:]
        values = self._vectors @ (factors[:, :, None] * self._components)
        return values.reshape(len(factors), len(self._vectors), *self._shape)

    def predictions(self, cross_kernel: ArrayLike, weights: Sequence[float]) -> np.ndarray:
        """Return predictions at other inputs after every step.

        Args:
            cross_kernel: kernel of those with the training inputs (m, n).
            weights: weight of the ground truth at steps 1 ... tau.

        Returns:
            (tau, m) or (tau, m, C).
        """
        before, w = step_factors(self.shrinkage, weights)[:-1], _checked_weights(weights)[:, None]
        return self._project(cross_kernel, ((1 - w) * before + w) / (self.eigenvalues + self.ridge))

    def limit(self, cross_kernel: ArrayLike, weight: float) -> np.ndarray:
        """Return predictions in the limit of a constant weight: those of ridge regression with ``ridge / weight``."""
        check_range("weight", weight, 0, 1)
        return self._project(cross_kernel, (weight / (weight * self.eigenvalues + self.ridge))[None])[0]

    def best_weights(self, cross_kernel: ArrayLike, target: ArrayLike, steps: int, *, clip: bool = False) -> np.ndarray:
        """Return the best weight of every step in turn on held-out data, each after the best ones before it.

        Args:
            cross_kernel: kernel of the held-out with the training inputs (m, n).
            target: held-out targets (m,) or (m, C).
            steps: number of steps; the weight of step 1 is 1 by definition.
            clip: keep weights in [0, 1].
        """
        weights = [1.0]
        for _ in range(steps - 1):
            ends = [self.predictions(cross_kernel, [*weights, end])[-1] for end in (1.0, 0.0)]
            best = best_weight(target, *ends)
            weights.append(float(np.clip(best, 0, 1)) if clip else best)
        return np.array(weights[:steps])

    def _project(self, cross_kernel: ArrayLike, factors: np.ndarray) -> np.ndarray:
        rotated = np.asarray(cross_kernel, dtype=float) @ self._vectors
        values = rotated @ (factors[:, :, None] * self._components)
        return values.reshape(len(factors), len(rotated), *self._shape)


def _check_ridge(ridge: float) -> None:
    if not (ridge > 0 and np.isfinite(ridge)):
        raise ConfigError(f"ridge is {ridge}; it must be positive and finite")


def _checked_weights(weights: Sequence[float]) -> np.ndarray:
    array = np.asarray(weights, dtype=float)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ConfigError(f"weights must be finite numbers, one per step; got {array}")
    return array
