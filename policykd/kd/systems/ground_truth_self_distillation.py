"""Kernel ridge regression that is fitted repeatedly to a mix of the labels and its own predictions.

Borup and Andersen, Even your Teacher Needs Guidance (NeurIPS 2021, arXiv 2102.13088). The closed forms are in
``policykd.kd.kernel_self_distillation``, the loss for networks in ``policykd.kd.losses.ground_truth_mse``.

Departures: the best weight of a step is the least-squares expression derived from the affine form of the prediction;
the paper's estimate of it for networks was not readable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from typing_extensions import override

from policykd.errors import check_range
from policykd.kd.experiments.experiment import Cell as Metrics
from policykd.kd.experiments.limits import Scale, Share
from policykd.kd.experiments.system import System, higher, lower
from policykd.kd.kernel_self_distillation import KernelSelfDistillation
from policykd.plain import Limits, check_limits
from policykd.seeding import generator


@dataclass(frozen=True)
class GroundTruthRecipe:
    """Ten clinical measurements that predict the progress of diabetes; a random split per seed.

    Attributes:
        samples: Training samples n; the rest of the 442 is the test part.
        gamma: Width of the kernel ``exp(-gamma ||x - x'||^2)`` on standardized inputs.
        steps: Distillation steps.
        small_ridge: A penalty that is too small.
        large_ridge: A penalty that is too large.
        low_weight: Smaller weight of the ground truth.
        high_weight: Larger weight of the ground truth.
        tuning_ridges: Choices of the cross-validated baseline.
        tuning_folds: Folds of that cross-validation.

    Raises:
        ConfigError: A field is out of range.
    """

    samples: Annotated[int, Limits(20, 400)] = 200
    gamma: Scale = 0.02
    steps: Annotated[int, Limits(2, 1000)] = 20
    small_ridge: Scale = 0.1
    large_ridge: Scale = 10.0
    low_weight: Share = 0.25
    high_weight: Share = 0.5
    tuning_ridges: tuple[float, ...] = (0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 4.0, 10.0)
    tuning_folds: int = 5

    def __post_init__(self) -> None:
        check_limits(self)
        check_range("tuning_folds", self.tuning_folds, 2, self.samples)


def diabetes(seed: int, samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs and targets for training, then for testing, standardized by the training part.

    Args:
        seed: The cell's seed.
        samples: Training samples.
    """
    from sklearn.datasets import load_diabetes  # ships with the package; nothing is downloaded

    x, y = load_diabetes(return_X_y=True)
    rows = generator(seed, "ground_truth_self_distillation", "split").permutation(len(y))
    train, test = rows[:samples], rows[samples:]
    x, y = (x - x[train].mean(0)) / x[train].std(0), (y - y[train].mean()) / y[train].std()
    return x[train], y[train], x[test], y[test]


def tuned_predictions(recipe: GroundTruthRecipe, x: np.ndarray, y: np.ndarray, test_x: np.ndarray) -> np.ndarray:
    """Return test predictions of ridge regression whose ridge is chosen by cross-validation."""
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.model_selection import GridSearchCV

    ridge = KernelRidge(kernel="rbf", gamma=recipe.gamma)
    search = GridSearchCV(ridge, {"alpha": list(recipe.tuning_ridges)}, cv=recipe.tuning_folds)
    return search.fit(x, y).predict(test_x)


def errors(predictions: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Return mean squared errors of the predictions of every step and, in the last row, of the limit.

    Args:
        predictions: ``(steps + 1, m)``; a single row is taken for all of them.
        target: ``(m,)``.
    """
    found = ((predictions - target) ** 2).mean(1)
    if len(found) == 1:
        found = np.repeat(found, 3)
    return {
        "mse step 2": float(found[1]),
        "mse last step": float(found[-2]),
        "mse limit": float(found[-1]),
        "mse best later step": float(found[1:-1].min()),
    }


_SMALL = "If the ridge is too small,"
_LARGE = "If the ridge is too large,"


class GroundTruthSelfDistillation(System[GroundTruthRecipe]):
    """Two wrong ridges, each with three weights of the ground truth, against their first fits and a tuned ridge."""

    name = "ground_truth_self_distillation"
    title = "Self-distillation with weighted ground-truth targets in kernel ridge regression"
    paper = "Borup and Andersen, Even your Teacher Needs Guidance, NeurIPS 2021, arXiv 2102.13088"
    claim = (
        "Self-distillation adds penalty: it helps where the ridge is too small and hurts where it is too large; weight "
        "on the ground truth dampens both effects."
    )
    claims = (
        *(
            claimed(metric, f"small ridge: {arm}", "small ridge: first fit").says(f"{_SMALL} {text}.")
            for claimed, metric, arm, text in (
                (lower, "mse step 2", "no weight", "one step of self-distillation lowers the error"),
                (
                    lower,
                    "mse last step",
                    "low weight",
                    "a low weight on the ground truth keeps the gain to the last step",
                ),
                (lower, "mse limit", "low weight", "a low weight on the ground truth keeps the gain in the limit"),
                (
                    higher,
                    "mse limit",
                    "no weight",
                    "self-distillation without ground truth raises the error in the limit",
                ),
            )
        ),
        *(
            higher("mse best later step", f"large ridge: {weight} weight", "large ridge: first fit").says(
                f"{_LARGE} each step with {weight} weight on the ground truth has more error than the first fit."
            )
            for weight in ("no", "low", "high")
        ),
        *(
            lower("mse limit", f"large ridge: {weight} weight", f"large ridge: {than} weight").says(
                f"{_LARGE} the limit has a lower error with {weight} than with {than} weight on the ground truth."
            )
            for weight, than in (("low", "no"), ("high", "low"))
        ),
        lower("mse limit", "small ridge: low weight", "tuned ridge", required=False).says(
            "The limit with a small ridge and a low weight on the ground truth has a lower error than a ridge "
            "chosen by cross-validation."
        ),
    )
    gates = (-0.0086, -0.01, -0.01, 0.35, 0.1, 0.07, 0.044, -0.18, -0.073)
    notes = (
        "The limit with weight w is ordinary ridge regression with ridge / w: a gain over the first fit shows that its "
        "ridge was too small, not that distillation is better than tuning.",
        "Networks are not trained here; ground_truth_mse is the loss for them.",
    )
    recipe = GroundTruthRecipe()

    @override
    def run(self, seed: int, recipe: GroundTruthRecipe) -> Metrics:
        from sklearn.metrics.pairwise import rbf_kernel

        x, y, test_x, test_y = diabetes(seed, recipe.samples)
        cross = rbf_kernel(test_x, x, gamma=recipe.gamma)
        problem = KernelSelfDistillation(rbf_kernel(x, gamma=recipe.gamma), y, ridge=recipe.small_ridge)
        found = {"tuned ridge": errors(tuned_predictions(recipe, x, y, test_x)[None], test_y)}
        for name, ridge in (("small ridge", recipe.small_ridge), ("large ridge", recipe.large_ridge)):
            here = problem.with_ridge(ridge)
            for label, weight in (("no", 0.0), ("low", recipe.low_weight), ("high", recipe.high_weight)):
                steps, limit = here.predictions(cross, [weight] * recipe.steps), here.limit(cross, weight)
                found[f"{name}: {label} weight"] = errors(np.concatenate([steps, limit[None]]), test_y)
            found[f"{name}: first fit"] = errors(here.predictions(cross, [1.0]), test_y)
        return found


EXPERIMENT = GroundTruthSelfDistillation().experiment()
