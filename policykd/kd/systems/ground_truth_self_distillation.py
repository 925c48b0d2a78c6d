"""Kernel ridge regression that is fitted again and again on a mix of the labels and its own predictions.

Borup and Andersen, Even your Teacher Needs Guidance (NeurIPS 2021, arXiv 2102.13088). With a kernel matrix
``K = V D V'`` and a ridge everything is closed form: step tau multiplies the component of the labels along an
eigenvector by the diagonal ``B(tau)``,

``B(1) = A,  B(tau) = A ((1 - w) B(tau - 1) + w I),  A = D / (D + ridge)``

with w the weight of the ground truth. For a constant w > 0 the limit is ordinary ridge regression with ``ridge / w``;
for w = 0 it is the zero function.

Departures: the best weight of a step is the least-squares expression derived from the affine form of the prediction;
how the paper estimates it for networks was not readable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from policykd.divergences import Reduction, full_precision, mse, prepare_pair, reduce_loss
from policykd.errors import ConfigError, check_range
from policykd.kd.experiments.experiment import Cell, Comparison, Experiment
from policykd.kd.shapes import check_labels, check_logits
from policykd.seeding import generator


def step_factors(shrinkage: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """The diagonals ``B(0) ... B(tau)`` by recursion.

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
    """The diagonal ``B(tau)`` as the unrolled sum over earlier steps; equals the last row of :func:`step_factors`.

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
    """The diagonal ``B(step)`` for the same weight at all steps, in closed form (a geometric series).

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
    """The diagonal after infinitely many steps: ``d / (d + ridge / weight)``, and 0 for a weight of 0.

    Raises:
        ConfigError: for a ridge that is not positive or a weight outside [0, 1].
    """
    _check_ridge(ridge)
    check_range("weight", weight, 0, 1)
    return weight * eigenvalues / (weight * eigenvalues + ridge)


def best_weight(target: ArrayLike, on_labels: ArrayLike, on_predictions: ArrayLike) -> float:
    """Weight of the ground truth that minimizes the squared error of a step on held-out data.

    The prediction is ``w u + (1 - w) v``, so that ``w* = <t - v, u - v> / ||u - v||^2``. It can lie outside [0, 1]
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
        """The same problem with another ridge; the decomposition is shared."""
        _check_ridge(ridge)
        other = object.__new__(KernelSelfDistillation)
        other.__dict__.update(self.__dict__, ridge=ridge)
        return other

    def fitted(self, weights: Sequence[float]) -> np.ndarray:
        """Predictions at the training inputs after every step: (steps, n, ...)."""
        factors = step_factors(self.shrinkage, weights)[1:]
        values = self._vectors @ (factors[:, :, None] * self._components)
        return values.reshape(len(factors), len(self._vectors), *self._shape)

    def predictions(self, cross_kernel: ArrayLike, weights: Sequence[float]) -> np.ndarray:
        """Predictions at other inputs after every step.

        Args:
            cross_kernel: kernel of those with the training inputs (m, n).
            weights: weight of the ground truth at steps 1 ... tau.

        Returns:
            (tau, m) or (tau, m, C).
        """
        before, w = step_factors(self.shrinkage, weights)[:-1], _checked_weights(weights)[:, None]
        return self._project(cross_kernel, ((1 - w) * before + w) / (self.eigenvalues + self.ridge))

    def limit(self, cross_kernel: ArrayLike, weight: float) -> np.ndarray:
        """Predictions after infinitely many steps with a constant weight: ridge regression with ``ridge / weight``."""
        check_range("weight", weight, 0, 1)
        return self._project(cross_kernel, (weight / (weight * self.eigenvalues + self.ridge))[None])[0]

    def best_weights(self, cross_kernel: ArrayLike, target: ArrayLike, steps: int, *, clip: bool = False) -> np.ndarray:
        """The best weight of every step in turn on held-out data, each after the best ones before it.

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


@full_precision
def ground_truth_mse(
    student: Tensor, teacher: Tensor, target: Tensor, *, ground_truth_weight: float, reduction: Reduction = "mean"
) -> Tensor:
    """The same mix for networks: ``w MSE(p_s, onehot) + (1 - w) MSE(p_s, p_t)`` on class probabilities.

    Args:
        student: Logits ``(B, C)``.
        teacher: Logits ``(B, C)`` of the previous step, detached here.
        target: Labels ``(B,)``.
        ground_truth_weight: w in [0, 1]; the rest goes to the teacher.
        reduction: How the values of shape ``(B,)`` are reduced; each is a mean over classes.

    Raises:
        TypeError: An input has the wrong type.
        ValueError: Shapes differ, a value is not finite, or the weight lies outside [0, 1].
    """
    check_range("ground_truth_weight", ground_truth_weight, 0, 1)
    check_logits(student)
    student, teacher = prepare_pair(student, teacher)
    one_hot = F.one_hot(check_labels(student, target), student.shape[1]).to(student.dtype)
    own = student.softmax(1)
    values = ground_truth_weight * mse(own, one_hot, reduction="none")
    return reduce_loss(values + (1 - ground_truth_weight) * mse(own, teacher.softmax(1), reduction="none"), reduction)


def norm_penalty(module: nn.Module) -> Tensor:
    """Sum of the L2 norms (not squared) of all parameter tensors, the penalty of the authors' script."""
    norms = [parameter.norm() for parameter in module.parameters()]
    if not norms:
        raise ConfigError("the module has no parameters")
    return sum(norms[1:], norms[0])


@dataclass(frozen=True)
class GroundTruthSelfDistillationConfig:
    """Ten clinical measurements that predict the progress of diabetes; a random split per seed.

    Attributes:
        samples: training samples n; the rest of the 442 is the test part.
        gamma: width of the kernel ``exp(-gamma ||x - x'||^2)`` on standardized inputs.
        steps: distillation steps.
        small_ridge: a penalty that is too small.
        large_ridge: one that is too large.
        low_weight: smaller weight of the ground truth.
        high_weight: larger one.
        tuning_ridges: what the cross-validated baseline chooses from.
        tuning_folds: folds of that cross-validation.
    """

    samples: int = 200
    gamma: float = 0.02
    steps: int = 20
    small_ridge: float = 0.1
    large_ridge: float = 10.0
    low_weight: float = 0.25
    high_weight: float = 0.5
    tuning_ridges: tuple[float, ...] = (0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 4.0, 10.0)
    tuning_folds: int = 5

    def __post_init__(self) -> None:
        check_range("samples", self.samples, 20, 400)
        check_range("steps", self.steps, 2, 1000)
        check_range("tuning_folds", self.tuning_folds, 2, self.samples)


def run(seed: int, config: GroundTruthSelfDistillationConfig) -> Cell:
    """Fit, distil and test on one random split."""
    from sklearn.metrics.pairwise import rbf_kernel

    (x, y), (test_x, test_y) = _diabetes(seed, config.samples)
    cross = rbf_kernel(test_x, x, gamma=config.gamma)
    problem = KernelSelfDistillation(rbf_kernel(x, gamma=config.gamma), y, ridge=config.small_ridge)
    arms = {"tuned ridge": _figures(_tuned_predictions(config, x, y, test_x)[None], test_y)}
    for name, ridge in (("small ridge", config.small_ridge), ("large ridge", config.large_ridge)):
        here = problem.with_ridge(ridge)
        for label, weight in (("no", 0.0), ("low", config.low_weight), ("high", config.high_weight)):
            steps, limit = here.predictions(cross, [weight] * config.steps), here.limit(cross, weight)
            arms[f"{name}: {label} weight"] = _figures(np.concatenate([steps, limit[None]]), test_y)
        arms[f"{name}: first fit"] = _figures(here.predictions(cross, [1.0]), test_y)
    return arms


def _figures(predictions: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Errors after the steps and the limit (..., last row); a single row stands for all of them."""
    errors = ((predictions - target) ** 2).mean(1)
    if len(errors) == 1:
        errors = np.repeat(errors, 3)
    return {
        "mse step 2": float(errors[1]),
        "mse last step": float(errors[-2]),
        "mse limit": float(errors[-1]),
        "mse best later step": float(errors[1:-1].min()),
    }


def _diabetes(seed: int, samples: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    from sklearn.datasets import load_diabetes  # ships with the package; nothing is downloaded

    x, y = load_diabetes(return_X_y=True)
    rows = generator(seed, "ground_truth_self_distillation", "split").permutation(len(y))
    train, test = rows[:samples], rows[samples:]
    x, y = (x - x[train].mean(0)) / x[train].std(0), (y - y[train].mean()) / y[train].std()
    return (x[train], y[train]), (x[test], y[test])


def _tuned_predictions(
    config: GroundTruthSelfDistillationConfig, x: np.ndarray, y: np.ndarray, test_x: np.ndarray
) -> np.ndarray:
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.model_selection import GridSearchCV

    ridge = KernelRidge(kernel="rbf", gamma=config.gamma)
    search = GridSearchCV(ridge, {"alpha": list(config.tuning_ridges)}, cv=config.tuning_folds)
    return search.fit(x, y).predict(test_x)


def _compared(student: str, baseline: str, metric: str, better: Literal["higher", "lower"], text: str) -> Comparison:
    return Comparison(metric, student=student, baseline=baseline, better=better, text=text)


_SMALL, _LARGE = "small ridge: first fit", "large ridge: first fit"
EXPERIMENT = Experiment(
    name="ground_truth_self_distillation",
    title="Self-distillation with weighted ground-truth targets in kernel ridge regression",
    paper="Borup and Andersen, Even your Teacher Needs Guidance, NeurIPS 2021, arXiv 2102.13088",
    claim="self-distillation adds penalty: it helps where the ridge is too small and hurts where it is too large; "
    "weight on the ground truth dampens both",
    config=GroundTruthSelfDistillationConfig(),
    run=run,
    comparisons=(
        _compared("small ridge: no weight", _SMALL, "mse step 2", "lower", "small ridge: one round of it helps"),
        _compared("small ridge: low weight", _SMALL, "mse last step", "lower", "low weight keeps the gain to the end"),
        _compared("small ridge: low weight", _SMALL, "mse limit", "lower", "low weight keeps the gain for ever"),
        _compared("small ridge: no weight", _SMALL, "mse limit", "higher", "without ground truth it collapses"),
        _compared("large ridge: no weight", _LARGE, "mse best later step", "higher", "large ridge: every step hurts"),
        _compared("large ridge: low weight", _LARGE, "mse best later step", "higher", "also with a low weight"),
        _compared("large ridge: high weight", _LARGE, "mse best later step", "higher", "also with a high weight"),
        _compared(
            "large ridge: low weight",
            "large ridge: no weight",
            "mse limit",
            "lower",
            "a low weight hurts less than none",
        ),
        _compared(
            "large ridge: high weight", "large ridge: low weight", "mse limit", "lower", "a high one hurts still less"
        ),
        Comparison(
            "mse limit",
            student="small ridge: low weight",
            baseline="tuned ridge",
            better="lower",
            required=False,
            text="the limit beats a ridge chosen by cross-validation",
        ),
    ),
    notes=(
        "The limit with weight w is ordinary ridge regression with ridge / w: a gain over the first fit says that its "
        "ridge was too small, not that distillation beats tuning.",
        "Networks are not trained here; ground_truth_mse is the loss for them.",
    ),
)


def _check_ridge(ridge: float) -> None:
    if not (ridge > 0 and np.isfinite(ridge)):
        raise ConfigError(f"ridge is {ridge}; it must be positive and finite")


def _checked_weights(weights: Sequence[float]) -> np.ndarray:
    array = np.asarray(weights, dtype=float)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ConfigError(f"weights must be finite numbers, one per step; got {array}")
    return array
